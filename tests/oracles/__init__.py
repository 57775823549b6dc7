"""What other programs answer, written by scripts that are run by hand in environments of their own."""
