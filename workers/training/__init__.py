"""Training on this host."""
