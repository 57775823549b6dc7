"""The workers of one host: how many, on which devices, for which queue."""
