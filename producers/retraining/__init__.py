"""When a model is made again, and whether the new one may take its place."""
