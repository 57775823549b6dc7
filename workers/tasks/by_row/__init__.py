"""Rows with languages or settings of their own."""
