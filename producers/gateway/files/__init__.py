"""OpenAI's files: upload, download, list."""
