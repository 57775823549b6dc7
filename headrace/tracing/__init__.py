"""Traces: one per job, one per attempt on a chunk. The same spans are exported and written to Parquet."""
