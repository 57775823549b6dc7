"""Traces: one for a job, one for each attempt at a chunk, timed once for spans and Parquet alike."""
