"""`python -m foldertune COMMAND …`."""

import sys

from foldertune.cli import main

sys.exit(main())
