"""A task on a language model that chooses between answers."""
