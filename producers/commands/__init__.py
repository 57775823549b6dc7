"""What each command of `headrace` does: thin shells over the rooms beside this one."""
