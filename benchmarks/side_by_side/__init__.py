"""headrace and its peers on the same rows: who takes part, how each is run, what is printed."""
