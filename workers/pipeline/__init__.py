"""The life of a chunk: read, tokenize, forward, assemble, write. No Redis, no Celery, no torch."""
