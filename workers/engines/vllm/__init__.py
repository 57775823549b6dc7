"""Generates with vLLM in a process of its own: its program, the pipes, settings, rows."""
