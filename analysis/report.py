"""The page of the exercise: as `foldertune report`, with the scenarios' own questions.

python -m analysis.report --logs analysis/exercise3 --out page
"""

import functools
import sys

from analysis.scenarios import find
from foldertune.cli import run

PROGRAM = "python -m analysis.report"

if __name__ == "__main__":
    sys.exit(run("report", program=PROGRAM, find=find))
