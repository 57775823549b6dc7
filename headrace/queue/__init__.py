"""The queue: Celery over Redis or RabbitMQ, its messages, its outbox and its dead letters."""
