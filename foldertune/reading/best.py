"""The best settings of a study, for the final training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldertune.errors import UserError
from foldertune.nesting import nest
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from foldertune.shipped import command


def best(logs: Path | str) -> dict[str, Any]:
    """The best settings in this folder, as an objective gets them. Raises UserError if no trial has succeeded yet."""
    return best_of(read_results(Path(logs), epochs=False), logs)


def best_of(results: Results, logs: Path | str) -> dict[str, Any]:
    """The best settings among these results of the folder `logs`. Raises UserError if there are none."""
    if results.best is None:
        raise UserError(f"{logs}: {_why_there_is_none(results)}; see: {command('status', '--logs', logs)}")
    (trial, *_), _ = results.best
    return nest(trial.settings)


def _why_there_is_none(results: Results) -> str:
    if not results.trials:
        return f"no trial has ended yet ({len(results.running)} running)"
    ended, collapsed = len(results.ended), len(results.collapsed)
    counts = f"{len(results.failed)} failed, {ended} succeeded" + (
        f", {collapsed} of them collapsed" if collapsed else ""
    )
    return f"no trial has a value of {results.study.metric} to go by ({counts})"
