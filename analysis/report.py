"""The page of the exercise: `python -m analysis.report`, as `foldertune report`, with the scenarios' own questions."""

import sys

from analysis.scenarios import find
from foldertune.commands.report import main

if __name__ == "__main__":
    sys.exit(main(find))
