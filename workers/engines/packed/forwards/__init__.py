"""Forwards of our own: for families that transformers does not let choose their attention."""
