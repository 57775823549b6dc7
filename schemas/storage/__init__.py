"""Storage: one port (`store.Store`), a folder on disk, a prefix of a bucket, and how to open either."""
