"""Protocols between processes over Redis and the store: leases, attempts, counters, live workers."""
