"""From a message to a committed chunk: leases, attempts, drain, metrics, crashes."""
