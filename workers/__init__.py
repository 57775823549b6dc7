"""Execution: the Celery app, the handler, the pipeline of one chunk, the engine, the fleet."""
