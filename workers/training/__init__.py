"""Trains models: the handler of a training job, its loop, its results."""
