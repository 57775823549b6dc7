"""What is written down: job, chunk, message, manifest, the columns of a part."""
