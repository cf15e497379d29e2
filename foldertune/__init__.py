"""Hyperparameter search over nothing but a shared folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

__version__ = "0.2.0"


def load(logs: Path | str) -> DataFrame:
    """The counted trials of a study as a pandas DataFrame, one row each, with settings, metrics, worker and times.

    Raises StudyError if there is no study in `logs`, and UserError without pandas (the extra `report`).
    """
    from foldertune.reading.frame import load as load_frame  # only here: a worker does not import it

    return load_frame(logs)
