"""Whole batches on a GPU: models, lengths and peers."""
