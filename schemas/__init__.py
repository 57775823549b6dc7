"""The shared language of headrace: what both sides of the queue must agree on."""
