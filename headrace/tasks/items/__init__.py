"""Options of tasks of which a row becomes several items, as given and as a job's record holds them."""
