"""Hyperparameter search over nothing but a shared folder."""
