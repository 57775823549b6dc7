"""What producers and workers both run, and what a plug-in imports."""
