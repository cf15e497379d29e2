"""Is a folder fit for a search? `checkup.py` makes all checks; `verdict.py` says which lease to use."""
