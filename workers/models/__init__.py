"""A model on this host: fetched, checked, its tokenizer and weights loaded."""
