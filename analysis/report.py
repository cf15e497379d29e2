"""The page of the exercise: as `foldertune report`, with the scenarios' own questions."""

import sys

from analysis.scenarios import find
from foldertune.cli import run

if __name__ == "__main__":
    sys.exit(run("report", program="python -m analysis.report", find=find))
