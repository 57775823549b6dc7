"""The numeric heart: packing rows into batches, attention without padding, device settings."""
