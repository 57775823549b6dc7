"""Who can read what headrace writes: each task's output, with error rows, by ten readers."""
