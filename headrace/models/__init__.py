"""Versions of models and the aliases that point to them: read by producers and synchronous workers."""
