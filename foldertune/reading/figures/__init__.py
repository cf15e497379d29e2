"""The figures of any study.

This file chooses the figures, writes their captions and hands them their values, which are facts of `Results`. The
other files draw the values that they are given. `style.py` sets the common look. matplotlib is imported only when a
figure is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial
from foldertune.reading.content import Picture
from foldertune.reading.figures.confirmed import draw_confirmed
from foldertune.reading.figures.course import draw_best_so_far, draw_simulated_searches
from foldertune.reading.figures.curves import Panel, draw_groups, draw_learning_curves, draw_points
from foldertune.reading.figures.front import draw_front
from foldertune.reading.figures.grid import draw_grid
from foldertune.reading.figures.hyperparameters import draw_hyperparameters
from foldertune.reading.figures.importance import draw_importance
from foldertune.reading.figures.ranked import draw_pair, draw_parallel_coordinates
from foldertune.reading.figures.rungs import Climb, draw_rungs
from foldertune.reading.figures.style import HIGHLIGHTED, MOST_DRAWN, sample_of
from foldertune.reading.figures.timeline import MOST_WORKERS, draw_timeline
from foldertune.reading.importance import Importance
from foldertune.reading.results import Group, Results
from foldertune.reading.words import described
from foldertune.study import Quantity
from foldertune.text import amount, counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "draw_best_so_far", "draw_grid", "draw_hyperparameters", "draw_importance", "draw_pair",
    "draw_parallel_coordinates", "draw_points", "draw_simulated_searches", "groups_picture",
    "learning_curves_picture", "pictures", "timeline_picture",
]  # fmt: skip
MOST_MEASURES = 4


def pictures(results: Results) -> list[Picture]:
    """The pictures that the data allow, the most informative first."""
    course = results.course
    metric = results.study.quantity(results.study.metric)
    found = []
    if any(each.sample.values for each in results.confirmation.ranked):
        found.append(confirmed_picture(results))
    if (trade := results.trade) is not None:
        x, y = trade.x.quantity.label, trade.y.quantity.label
        caption = f"The Pareto front: {x} and {y} of all trials; no trial beats those on the front in all metrics"
        found.append(Picture("front", f"{caption}{_drawn(results.scored)}.", lambda: draw_front(trade)))
    if results.measures:
        found.append(learning_curves_picture(results))
    if len(course.values) > 1 and results.work.spans:
        epochs = ", over time and over epochs" if course.epochs and course.epochs[-1] else " and over time"
        rung = ", at whatever rung" if results.rungs else ""
        caption = f"The best {metric.label} so far{rung}, over trials{epochs}."
        found.append(Picture("best-so-far", caption, lambda: draw_best_so_far(course, metric)))
    if len(results.rungs) > 1 and results.scored:
        found.append(rungs_picture(results))
    if results.scored and results.varied:
        found += _pictures_of_settings(results)
    if results.work.spans:
        found.append(timeline_picture(results))
    return found


def _pictures_of_settings(results: Results) -> list[Picture]:
    """The pictures of the metric over the settings that differ between trials."""
    study, importance = results.study, results.importance
    scores = results.scores
    metric, names = scores.metric.quantity.label, results.varied
    over = f"Each hyperparameter{' and what is derived from them' if scores.derived else ''} against {metric}; "
    best = f"the best {HIGHLIGHTED} trials in the colours of their curves."
    best += " Each settings once, after their longest training." * bool(results.rungs)
    along = f"One line per trial, through its settings to its {metric}; better is darker{_drawn(results.scored)}."
    found = [
        Picture("hyperparameters", over + best, lambda: draw_hyperparameters(scores)),
        Picture("parallel-coordinates", along, lambda: draw_parallel_coordinates(scores)),
    ]
    if importance:
        text = _explain(importance) + _at_which_rung(results)
        found.append(Picture("importance", text, lambda: draw_importance(study, importance)))
    pair = (names[0], names[1]) if len(names) > 1 and len(results.scored) > 2 else None
    matters = importance.best_pair if importance and not importance.predicts_nothing else None
    if chosen := matters or pair:
        a, b = (study.quantity(name).label for name in chosen)
        which = "the pair that predicts best" if matters else "two of the hyperparameters"
        grid = results.grid(*chosen)
        colours = f"colours are ranks by {metric}{_drawn(results.scored)}."
        colours = f"the mean {metric} of each combination.{_at_which_rung(results)}" if grid else colours
        text = f"{a[:1].upper()}{a[1:]} and {b}, {which}; {colours}"
        found.append(Picture("pair", text, lambda: draw_grid(grid) if grid else draw_pair(scores, chosen)))
    return found


def _drawn(lines: Sequence[Any]) -> str:
    return f", and {MOST_DRAWN:,} of the others, chosen at random" if len(lines) > MOST_DRAWN else ""


def _at_which_rung(results: Results) -> str:
    """Which trials of a schedule are compared."""
    fidelity = results.study.fidelity
    if not results.rungs or fidelity is None:
        return ""
    level = f"{fidelity.setting} {amount(results.compared_level)}"
    return f" Compared are the trials of one rung, {level}, so each settings counts once."


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


def confirmed_picture(results: Results) -> Picture:
    """The picture of the spread of confirmed settings."""
    metric = results.study.quantity(results.study.metric)
    caption = (
        f"The {metric.label} of settings that were trained again with new seeds, the best mean on top. The value for "
        f"which they were chosen is no part of the mean."
    )
    return Picture("confirmed", caption, lambda: draw_confirmed(results.confirmation.ranked, metric))


def rungs_picture(results: Results) -> Picture:
    """The picture of the rungs: which trainings went on."""
    study, fidelity = results.study, results.study.fidelity
    assert fidelity is not None
    metric, label = study.quantity(study.metric), study.quantity(fidelity.setting)
    climbs = []
    ended = [trial for trial in results.tried if trial.parent and trial.name not in results.gone_on]
    diverged = [trial for trial in ended if results.value(trial) is None]
    lost = {trial.name for trial in diverged}
    for trial in (*(trial for trial, _ in results.scored), *diverged):
        pairs = [
            (results.level(each), value) for each in results.chain(trial) if (value := results.value(each)) is not None
        ]
        if pairs:
            levels, values = zip(*pairs, strict=True)
            climbs.append(Climb(trial.name.number, levels, values, has_diverged=trial.name in lost))
    quantity = Quantity(label.label, label.unit, "log")
    caption = (
        f"The {metric.label} of each training at its rungs, {', '.join(amount(rung.level) for rung in results.rungs)} "
        f"{fidelity.setting}; a line joins the trials of one training{_drawn(results.scored)}."
    )
    return Picture("rungs", caption, lambda: draw_rungs(climbs, quantity, metric))


def learning_curves_picture(results: Results) -> Picture:
    """The picture of the learning curves of all trials."""
    scored = results.scored[:HIGHLIGHTED]
    colours = f"; the best {len(scored)} in colour" if scored else ""
    what = "training" if results.rungs else "trial"
    whole = ", each through all of its rungs" if results.rungs else ""
    caption = f"Learning curves of {counted(len(results.begun), what)}{whole}{colours}{_drawn(results.begun)}."
    return Picture("learning-curves", caption, lambda: _draw_learning_curves(results, scored))


def _draw_learning_curves(results: Results, scored: Sequence[tuple[Trial, float]]) -> Figure:
    best, metric = [trial for trial, _ in scored], results.study.quantity(results.study.metric)
    highlighted = {trial.name.number for trial in best}
    others = sample_of([trial for trial in results.begun if trial.name.number not in highlighted])
    panels = [
        Panel(
            results.quantity(name),
            [results.curve(trial, name) for trial in best],
            [results.curve(trial, name) for trial in others],
        )
        for name in results.main_measures(MOST_MEASURES)
    ]
    names = []
    for trial, value in scored:
        settings = described(trial.settings, results.study.space)
        names.append(f"trial {trial.name.number}: {metric.label} {metric.show(value)} ({settings})")
    return draw_learning_curves(panels, results.quantity("epoch"), [*names, *(["the others"] if others else [])])


def groups_picture(
    name: str, caption: str, groups: Sequence[Group], names: Sequence[str], measure: str, over: str = "epoch"
) -> Picture:
    """A picture of the curves of every run, by one or two settings.

    Args:
        names: the settings by which the trials are grouped.
        over: the measure on the x-axis, such as the seconds.
    """
    results = groups[0].results
    titles = [results.study.quantity(name) for name in names]
    x, y = results.quantity(over), results.quantity(measure)
    return Picture(name, caption, lambda: draw_groups([group.runs(measure, over) for group in groups], titles, x, y))


def timeline_picture(results: Results) -> Picture:
    """The picture of the timeline: the trials of each worker over time."""
    work = results.work
    workers = len(work.workers)
    some = f"; {MOST_WORKERS} of {workers} workers, first those that lost an attempt" if workers > MOST_WORKERS else ""
    caption = (
        "Timeline: one line per worker, one bar per trial, with the trial's number where there is room, "
        f"by the clocks of the workers' hosts{some}."
    )
    return Picture("timeline", caption, lambda: draw_timeline(work))
