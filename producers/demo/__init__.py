"""The demo's side of control: a corpus made from a seed, and the score against its labels."""
