"""Generates text with CTranslate2: the model is converted once, and checked against transformers."""
