"""Meets the same rows of two outputs, and compares their entities."""
