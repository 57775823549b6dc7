"""Redis and workers of a `headrace run` on this machine."""
