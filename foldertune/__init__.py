"""Hyperparameter search over nothing but a shared folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

__version__ = "0.2.0"


def load(logs: Path | str) -> Any:
    """The counted trials of a study as a pandas DataFrame: a row for each, with settings, metrics, worker and times.

    Raises StudyError if there is no study in `logs`, and UserError without pandas (the extra `report`).
    """
    return importlib.import_module("foldertune.reading.frame").load(logs)  # by its name: a worker imports none of this


def best(logs: Path | str) -> dict[str, Any]:
    """The best settings of the study in `logs`, as its objective got them: ready for the final training.

    Raises StudyError if there is no study in `logs`, and UserError if no trial has succeeded yet.
    """
    settings: dict[str, Any] = importlib.import_module("foldertune.reading.best").best(logs)
    return settings
