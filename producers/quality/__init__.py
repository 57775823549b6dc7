"""How good the scores of an output are: measured against gold labels, and compared between outputs."""
