"""How a chunk's rows become texts: the counterpart of `workers.pipeline.forward`."""
