"""Generates text with CTranslate2: the model is converted once and compared with transformers."""
