"""The tasks that ship with headrace; others come by the entry-point group `headrace.tasks`."""
