"""Prepares a training job: checks and splits the labelled rows."""
