"""The controller: what to send, what is done, how a job ends."""
