"""Finds what comes with foldertune: the studies, the example objective, and the programs that a user types.

In a checkout they are at its root. In an installed wheel they are in `foldertune/exercise/`, which pyproject.toml
fills with the same `studies/`, `exercise3.py` and `training/`.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

INSTALLED = (_PACKAGE / "exercise").is_dir()
HOME = _PACKAGE / "exercise" if INSTALLED else _PACKAGE.parent
STUDIES = HOME / "studies"
DEFAULT_OBJECTIVE = "exercise3:train"
COMMAND_OBJECTIVE = "command"  # of a study that is trained by any command: see running/command.py


def shipped_studies() -> list[str]:
    """The names of the studies that come with foldertune."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def command(name: str, *arguments: object) -> str:
    """The command line that a user types: `python worker.py …` in a checkout, otherwise `foldertune worker …`."""
    called, words = Path(sys.argv[0]), ["foldertune", *name.split()]
    if (HOME / "worker.py").is_file() and called.stem != "foldertune":
        beside = called.with_name(f"{name}.py")  # `python ~/foldertune/master.py` was typed: worker.py is there, too
        script = beside if beside.is_file() else HOME / beside.name
        is_here = not beside.is_file() or not called.parent.name
        words = ["python", script.name if is_here else str(script)] if script.is_file() else ["python", "-m", *words]
    return shlex.join([*words, *map(str, arguments)])


def how_to_go_on(logs: Path) -> str:
    """What to type when a person has paused, drained or stopped the search in this folder."""
    return f"go on with: {command('resume', '--logs', logs)}"
