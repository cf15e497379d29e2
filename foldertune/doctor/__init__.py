"""Finds out whether a folder is fit for a search. `checkup.py` makes all checks; `verdict.py` recommends a lease."""
