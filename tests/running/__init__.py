"""Masters and workers at work."""
