"""The HTTP gateway: OpenAI's files and batches, jobs, and the console. It keeps no state of its own."""
