"""What every process of ours needs: entry point, logs, an HTTP server, numbers for people."""
