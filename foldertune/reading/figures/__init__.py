"""The figures of any study. They draw values of `Results`, and compute none.

`style.py` sets their common look. matplotlib is imported only when a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foldertune.reading.content import Picture
from foldertune.reading.figures.course import MOST_WORKERS, draw_best_so_far, draw_simulated_searches, draw_timeline
from foldertune.reading.figures.curves import draw_groups, draw_learning_curves, draw_points
from foldertune.reading.figures.importance import draw_importance
from foldertune.reading.figures.settings import draw_hyperparameters, draw_pair, draw_parallel_coordinates
from foldertune.reading.figures.style import HIGHLIGHTED, MOST_DRAWN
from foldertune.reading.importance import Importance
from foldertune.reading.results import Results
from foldertune.tables import short
from foldertune.text import counted

__all__ = [
    "draw_best_so_far", "draw_groups", "draw_hyperparameters", "draw_importance", "draw_learning_curves", "draw_pair",
    "draw_parallel_coordinates", "draw_points", "draw_simulated_searches", "draw_timeline", "pictures",
    "timeline_picture",
]  # fmt: skip


def pictures(results: Results) -> list[Picture]:
    """The pictures that the data allow, the most informative first."""
    study, scored = results.study, results.scored
    metric = study.quantity(study.metric).label
    found = []
    if results.measures:
        begun = [trial for trial in (*results.trials, *results.in_hand) if trial.epochs]
        best = f"; the best {min(len(scored), HIGHLIGHTED)} in colour" if scored else ""
        caption = f"Learning curves of {counted(len(begun), 'trial')}{best}{_drawn(begun)}."
        found.append(Picture("learning-curves", caption, lambda: draw_learning_curves(results)))
    if len(results.course.values) > 1 and results.spans:
        caption = f"The best {metric} so far, over trials and over time."
        found.append(Picture("best-so-far", caption, lambda: draw_best_so_far(results)))
    names = [name for name in study.space if len({short(trial.settings.get(name)) for trial, _ in scored}) > 1]
    if names:
        found += _pictures_of_settings(results, names)
    if results.spans:
        found.append(timeline_picture(results))
    return found


def _pictures_of_settings(results: Results, names: Sequence[str]) -> list[Picture]:
    """The pictures of the metric over the settings that differ between trials."""
    study, importance = results.study, results.importance
    metric = study.quantity(study.metric).label
    derived = [name for name in study.derived if study.parts(name) <= {*names}]
    over = f"Each hyperparameter{' and what is derived from them' if derived else ''} against {metric}; "
    best = f"the best {HIGHLIGHTED} trials in the colours of their curves."
    along = f"One line per trial, through its settings to its {metric}; better is darker{_drawn(results.scored)}."
    found = [
        Picture("hyperparameters", over + best, lambda: draw_hyperparameters(results, [*names, *derived])),
        Picture("parallel-coordinates", along, lambda: draw_parallel_coordinates(results)),
    ]
    if importance:
        text = _explain(importance)
        found.append(Picture("importance", text, lambda: draw_importance(study, importance)))
    pair = (names[0], names[1]) if len(names) > 1 and len(results.scored) > 2 else None
    matters = importance.best_pair if importance and not importance.predicts_nothing else None
    if chosen := matters or pair:
        a, b = (study.quantity(name).label for name in chosen)
        which = "the pair that predicts best" if matters else "two of the hyperparameters"
        text = f"{a[:1].upper()}{a[1:]} and {b}, {which}; colours are ranks by {metric}{_drawn(results.scored)}."
        found.append(Picture("pair", text, lambda: draw_pair(results, chosen)))
    return found


def _drawn(lines: Sequence[Any]) -> str:
    return f", and {MOST_DRAWN:,} of the others, chosen at random" if len(lines) > MOST_DRAWN else ""


def _explain(importance: Importance) -> str:
    """The caption of the importance figure. It explains the bars and their limits."""
    of = "" if importance.trials == importance.of else f", drawn at random from {importance.of:,}"
    trials = f"{counted(importance.trials, 'trial')}{of}"
    if importance.predicts_nothing:
        return (
            f"Importance can't be told from {trials}: whichever hyperparameters a random forest knows, it predicts "
            f"the ranks of unseen trials no better than their mean does. So the shares on the left mean nothing."
        )
    return (
        f"Importance for the ranks of {trials}. Left: Optuna's fANOVA. Right: the share of the variance (R²) that a "
        f"random forest predicts for unseen trials if it knows only these hyperparameters; below 0 it predicts worse "
        f"than the mean rank. These out-of-bag estimates are noisy: a few hyperparameters can do better than all "
        f"together, because those that matter little mislead the forest."
    )


def timeline_picture(results: Results) -> Picture:
    """The picture of the timeline: the trials of each worker over time."""
    workers = len(results.workers)
    some = f"; {MOST_WORKERS} of {workers} workers, first those that lost an attempt" if workers > MOST_WORKERS else ""
    caption = (
        "Timeline: one line per worker, one bar per trial, with the trial's number where there is room, "
        f"by the clocks of the workers' hosts{some}."
    )
    return Picture("timeline", caption, lambda: draw_timeline(results))
