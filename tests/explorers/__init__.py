"""Slow explorations, each a command of its own; the suite runs a short version."""
