"""The rows of a training: read once, tokenized, cut into batches."""
