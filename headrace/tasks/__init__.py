"""What a task is: the contract of a plug-in, the catalogue and the registry."""
