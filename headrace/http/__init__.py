"""HTTP servers of applications: the gateway and the synchronous worker."""
