"""From a request to a job in the store: options, precision, reuse, conflicts."""
