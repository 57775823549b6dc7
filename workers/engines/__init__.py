"""Engines run a loaded model over batches; each is a folder beside the others."""
