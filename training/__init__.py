"""Trains the network of the exercise. It knows nothing of trial files."""
