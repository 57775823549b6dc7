"""Asks an API that speaks OpenAI's chat completions: decisions about retries, HTTP, requests."""
