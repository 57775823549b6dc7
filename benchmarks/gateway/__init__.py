"""The HTTP doors under load: the gateway's memory and speed, slow clients, the synchronous worker."""
