"""Measures a user's training script: finds its steps from outside, while the script runs as it is."""
