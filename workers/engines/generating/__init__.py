"""Engines that write text; the port is `base`, one file or folder each beside it."""
