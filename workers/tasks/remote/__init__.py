"""Tasks whose model is behind HTTP."""
