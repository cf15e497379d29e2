"""How the network of the exercise is trained. Knows nothing of trial files."""
