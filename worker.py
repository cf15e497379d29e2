#!/usr/bin/env python3
"""The same as `foldertune worker`, from a checkout."""

import sys

from foldertune.commands.worker import main

if __name__ == "__main__":
    sys.exit(main())
