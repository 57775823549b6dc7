"""How many workers a queue wants, decided from facts and served over HTTP."""
