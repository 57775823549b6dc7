"""Generates with transformers' models, step by step: rows leave when they end, and may join."""
