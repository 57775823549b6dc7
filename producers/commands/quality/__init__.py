"""The commands that say how good an output is: evaluate, compare, drift."""
