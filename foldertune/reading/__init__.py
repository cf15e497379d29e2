"""What a study has found, for people."""
