#!/usr/bin/env python3
"""The same as `foldertune master`, from a checkout."""

import sys

from foldertune.cli import run

if __name__ == "__main__":
    sys.exit(run("master"))
