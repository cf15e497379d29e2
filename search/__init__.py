"""What to try next, and the folder protocol. Start with `search/trials.py`."""
