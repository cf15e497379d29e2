"""The best settings of a study, for the final training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from foldertune.errors import UserError
from foldertune.nesting import nest
from foldertune.reading.explain import not_confirmed_yet
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from foldertune.reading.words import names_of_metrics, waiting
from foldertune.shipped import command


def best(logs: Path | str) -> dict[str, Any]:
    """The best settings in this folder, as an objective gets them. Raises UserError if no trial has succeeded yet."""
    logs = os.path.expanduser(logs)  # no shell has done it
    return best_of(read_results(Path(logs), epochs=False), logs)


def best_of(results: Results, logs: Path | str) -> dict[str, Any]:
    """The best settings among these results of the folder `logs`. Raises UserError if there are none."""
    if results.best is None:
        raise UserError(f"{logs}: {_why_there_is_none(results)}; {_what_to_do(results, logs)}")
    (trial, *_), _ = results.best
    return nest(trial.settings)


def confirmed_line(results: Results) -> str:
    """What the confirmations say about the best settings, in one sentence; empty if nothing is confirmed."""
    study, known = results.study, results.confirmation
    quantity = study.quantity(study.metric)
    if winner := known.winner:
        before = (
            "" if winner.value is None else f"; {quantity.show(winner.value)} in the search, for which it was chosen"
        )
        mean = f"{quantity.label} {winner.sample.show(quantity)}"
        return f"Confirmed: {mean} with the settings of trial {winner.number}{before}."
    return not_confirmed_yet(results) if results.trials else ""


def front_of(results: Results, logs: Path | str) -> list[dict[str, Any]]:
    """The points of the Pareto front, best in the first metric first. Raises UserError if there is no front."""
    study = results.study
    if not study.others:
        raise UserError(f"{logs}: the study has one metric, {study.metric}, and so no Pareto front; leave out --front")
    if not results.front:
        raise UserError(f"{logs}: no whole training has all of {', '.join(study.metric_names)} yet; wait for some")
    return [
        {
            "trial": point.trials[0].name.number,
            "metrics": dict(zip(study.metric_names, point.values, strict=True)),
            "settings": nest(point.trials[0].settings),
        }
        for point in results.front
    ]


def _what_to_do(results: Results, logs: Path | str) -> str:
    if results.handed_in:
        return "if no master runs, start it again"
    return f"see: {command('status', '--logs', logs)}"


def _why_there_is_none(results: Results) -> str:
    handed_in = [waiting(len(results.handed_in))] if results.handed_in else []
    if not results.trials:
        return f"no trial is counted yet ({', '.join([f'{len(results.running)} running', *handed_in])})"
    counts = [f"{len(results.failed)} failed", f"{len(results.ended)} succeeded"]
    counts += [f"{len(results.collapsed)} of them collapsed"] if results.collapsed else []
    return f"no trial has a value of {names_of_metrics(results.study)} to go by ({', '.join([*counts, *handed_in])})"
