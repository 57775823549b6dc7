"""CPUs and GPUs: which exist, which number formats they support, how a process is pinned to one."""
