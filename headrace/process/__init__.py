"""What every process needs: entry point, logs, an HTTP server, numbers formatted for people."""
