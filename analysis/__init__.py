"""The exercise: its six scenarios, kept results and figures. Imports no torch."""
