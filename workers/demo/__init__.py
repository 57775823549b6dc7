"""The demo's side of compute: a small model that writes, trained on the spot."""
