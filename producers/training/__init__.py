"""Labelled rows: checked, split, and made a job that trains."""
