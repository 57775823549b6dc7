"""Processes a batch: check its lines, submit and follow its job, write its answers."""
