"""One job as the controller knows it: its chunks, its failures, its counters."""
