"""What came out of a study: tables, status, plots. Imports no torch."""
