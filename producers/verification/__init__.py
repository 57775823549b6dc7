"""An output recounted against its input."""
