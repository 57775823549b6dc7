"""A reduced precision compared with float32 on rows of the job."""
