"""Writes the learning curves of all trials as JSON into the page; page.js draws them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from foldertune.protocol import Trial, printable
from foldertune.reading.results import Results

MOST_NUMBERS = 300_000  # in a page; if there are more, each curve is thinned out
MOST_MEASURES = 6


def curves_of(results: Results) -> str:
    """The learning curves of the counted trials and their measures, as JSON that is safe inside HTML."""
    from markupsafe import Markup

    study = results.study
    trials = [trial for trial in results.trials if trial.epochs]
    measures = results.main_measures(MOST_MEASURES)
    numbers = sum(len(results.epochs_of(trial)) for trial in trials) * (len(measures) + 1)
    step = math.ceil(numbers / MOST_NUMBERS) or 1
    quantities = [study.quantity(measure) for measure in measures]
    record = {
        "measures": [{"label": printable(q.label), "unit": printable(q.unit), "scale": q.scale} for q in quantities],
        "best": results.best[0][0].name.number if results.best else None,
        "note": f" One epoch in {step} is kept here." if step > 1 else "",
        "trials": {trial.name.number: _curve(results, trial, measures, step) for trial in trials},
    }
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _curve(results: Results, trial: Trial, measures: Sequence[str], step: int) -> list[list[float | None]]:
    """The epochs, then each measure after them; one epoch in `step` is kept."""
    kept = results.epochs_of(trial)[::-1][::step][::-1]  # the last epoch is always kept
    columns = [[_rounded(results.measure(trial, epoch, name)) for epoch in kept] for name in measures]
    return [[_shortest(results.measure(trial, epoch, "epoch")) for epoch in kept], *columns]


def _rounded(value: float | None) -> float | None:
    if value is None:
        return None
    return _shortest(float(f"{value:.4g}"))


def _shortest(value: float | None) -> float | None:
    """The same number, as an integer if it is one."""
    return int(value) if value is not None and value.is_integer() and abs(value) < 1e9 else value
