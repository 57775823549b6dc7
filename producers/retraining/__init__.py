"""Decides when to retrain a model, and whether the new one may replace it."""
