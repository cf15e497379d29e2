"""Finds the studies and the example objective that come with foldertune.

In a checkout they are at its root. In an installed wheel they are in `foldertune/exercise/`, which pyproject.toml
fills with the same `studies/`, `exercise3.py` and `training/`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

INSTALLED = (_PACKAGE / "exercise").is_dir()
HOME = _PACKAGE / "exercise" if INSTALLED else _PACKAGE.parent
STUDIES = HOME / "studies"
DEFAULT_OBJECTIVE = "exercise3:train"
