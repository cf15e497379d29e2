"""The state of a search on a terminal."""
