#!/usr/bin/env python3
"""The same as `foldertune master`, from a checkout."""

import sys

from foldertune.commands.master import main

if __name__ == "__main__":
    sys.exit(main())
