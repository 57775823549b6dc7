"""Commands about making models."""
