"""Input files: how a format is recognized, scanned for a plan and read row by row."""
