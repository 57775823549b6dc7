"""What the pages for people have in common: the report of a job and the gateway's console."""
