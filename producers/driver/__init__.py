"""Drives a job from a command: set up, follow, ask for a precision check."""
