"""CPUs and GPUs: what is there, what it computes, how a process is pinned to it."""
