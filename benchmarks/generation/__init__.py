"""The engine `transformers` beside `generate`: the same texts, and how long they take."""
