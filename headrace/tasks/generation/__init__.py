"""Tasks whose answer is text that a model writes: their engines, settings and specs."""
