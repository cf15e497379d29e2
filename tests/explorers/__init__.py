"""Slow explorations, each with a command of its own. The test suite runs a short version."""
