"""What the workers are and how fast: device, measured speed, guesses."""
