"""The fleet around the engine: start, queue, scaling, spans."""
