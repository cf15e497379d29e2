"""Reads the results of a study and shows them to people."""
