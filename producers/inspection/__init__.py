"""Questions about a machine or an output: doctor, explain, export of traces."""
