"""Storage: one port (`store.Store`), a folder on disk, a prefix of a bucket, how to open either."""
