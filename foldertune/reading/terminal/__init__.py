"""Shows the state of a search in a terminal."""
