"""From an input to chunks: find files, read their footers, cut, check columns and ids."""
