"""Hyperparameter search over nothing but a shared folder."""

__version__ = "0.2.0"
