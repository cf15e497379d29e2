"""The master and the worker, at work."""
