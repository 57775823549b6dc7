"""What `import headrace` offers: run and submit jobs, and read their results, from Python."""
