"""Make the page of the exercise: like `foldertune report`, but scenarios 1 to 6 have findings of their own.

python -m analysis.report --logs analysis/exercise3 --out page
"""

import sys

from analysis.scenarios import find
from foldertune.cli import run

if __name__ == "__main__":
    sys.exit(run("report", program="python -m analysis.report", find=find))
