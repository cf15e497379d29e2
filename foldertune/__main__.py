"""Runs the command `foldertune` as `python -m foldertune COMMAND …`."""

import sys

from foldertune.cli import main

if __name__ == "__main__":
    sys.exit(main())
