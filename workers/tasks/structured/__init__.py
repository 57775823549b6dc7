"""Answers of a given form: their columns."""
