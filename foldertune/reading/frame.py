"""The counted trials as a pandas DataFrame, for notebooks."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from foldertune.errors import missing_extra
from foldertune.reading.reader import read_results
from foldertune.rows import Row, columns, with_derived, with_front
from foldertune.tables import as_value

if TYPE_CHECKING:
    from pandas import DataFrame


def load(logs: Path | str) -> DataFrame:
    """A DataFrame with a row per counted trial, all columns of results.csv, the derived quantities, and
    with several metrics `front`: does the trial lie on the Pareto front?

    Times are timestamps in UTC. Warns about files that could not be read. Raises StudyError if there is no study in
    `logs`, UserError without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        raise missing_extra("report", error) from None
    results = read_results(Path(os.path.expanduser(logs)), epochs=False)
    for complaint in results.complaints:
        warnings.warn(f"left out: {complaint}", stacklevel=2)
    rows = with_derived(results.study, [Row.from_trial(trial) for trial in results.trials])
    rows = with_front(results.study, rows, results.on_front)
    table = pandas.DataFrame(
        [{key: as_value(cell) for key, cell in row.cells().items()} for row in rows], columns=columns(rows)
    )
    for key in ("claimed", "finished"):
        texts = [time if isinstance(time, str) else None for time in table[key]]
        table[key] = pandas.to_datetime(pandas.Series(texts, dtype="str"), utc=True, errors="coerce", format="ISO8601")
    return table
