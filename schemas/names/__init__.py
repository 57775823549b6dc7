"""Names that others depend on: files of an output, keys in Redis, spans, metrics, log events."""
