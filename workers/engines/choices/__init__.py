"""Reads how likely a language model finds each of some answers, without generating."""
