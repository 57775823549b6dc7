"""One batch: its lines checked, its job submitted and followed, its answers written."""
