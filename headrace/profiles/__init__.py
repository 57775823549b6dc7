"""What the rows of a chunk look like, in counts that add up exactly: the ground of `headrace drift`."""
