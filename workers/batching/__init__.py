"""How rows become batches: packing by tokens, and the search for the budget."""
