"""Profiles: statistics of a chunk's rows, in counts that can be added exactly. For `headrace drift`."""
