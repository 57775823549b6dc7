"""Every family of transformers on tiny models: ours beside the model itself, row by row."""
