"""The Celery process of a worker: app, consumer, pool, transport."""
