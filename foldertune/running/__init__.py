"""The master and the worker."""
