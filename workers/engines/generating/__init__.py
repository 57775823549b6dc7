"""What engines that generate text share: the port (`base`), catalog, scheduling, memory, errors."""
