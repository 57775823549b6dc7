"""The search tasks, each beside what people run otherwise."""
