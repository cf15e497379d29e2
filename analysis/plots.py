"""Pictures of a study.

    python -m analysis.plots                   logs/plots/learning-curves.png
    python -m analysis.plots --logs /shared/me/lr --out pictures

Learning curves: what every trial reported after each epoch, one panel a
measure, the best trials in colour, the others in grey. The study may still run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.archive import open_study
from analysis.results import Row, rank, short
from search.command_line import add_logs, new_parser
from search.study import Study, StudyError
from search.trials import BrokenFile, Folder, Trial, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGHLIGHTED = 4
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by the colour-blind
STYLES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")  # and in print
NOT_MEASURES = ("epoch", "seconds")


def read_trials(folder: Folder) -> list[Trial]:
    """All trials that have begun, the running ones too, in their order; what can't be read is left out."""
    trials: dict[int, Trial] = {}
    names = [name for name in (*folder.settled(), *folder.names()) if name.state in ("seen", "done", "taken")]
    for name in names:
        try:
            trials.setdefault(name.number, folder.read(name))
        except (BrokenFile, OSError):
            continue  # analysis.results names what is broken
    return [trials[number] for number in sorted(trials)]


def measures(trials: Sequence[Trial]) -> list[str]:
    """What the trials reported after their epochs, in the order of its first appearance."""
    found: dict[str, None] = {}
    for trial in trials:
        for epoch in trial.epochs:
            found.update((key, None) for key, value in epoch.items() if isinstance(value, int | float))
    return [key for key in found if key not in NOT_MEASURES]


def draw_learning_curves(study: Study, trials: Sequence[Trial]) -> Figure:
    """One panel a measure, over epochs; the best trials so far in colour, and in the legend."""
    from matplotlib.figure import Figure

    panels = measures(trials)
    rows = [Row.from_trial(trial) for trial in trials if trial.result is not None]
    best = [row.trial for row in rank(rows, study.metric, study.direction) if row.value(study.metric) is not None]
    highlighted = best[:HIGHLIGHTED]
    figure = Figure(figsize=(4.2 * len(panels), 4.4), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for trial in trials:
            if trial.name.number not in highlighted:
                _draw_curve(axes, trial, measure, color="#9a9a9a", linewidth=0.8, alpha=0.6)
        for position, number in reversed(list(enumerate(highlighted))):
            trial = next(trial for trial in trials if trial.name.number == number)
            style = {"color": COLOURS[position], "linestyle": STYLES[position], "linewidth": 1.8}
            _draw_curve(axes, trial, measure, **style, zorder=3 - position / 10)
        _dress(axes, trials, measure)
    by_number = {row.trial: row for row in rows}
    _add_legend(figure, study, [by_number[n] for n in highlighted], others=len(trials) > len(highlighted))
    figure.suptitle(f"{study.name}: learning curves of {len(trials)} trials", fontsize=11)
    return figure


def _draw_curve(axes: Axes, trial: Trial, measure: str, **style: object) -> None:
    number = int | float
    points = [
        (epoch["epoch"], epoch[measure])
        for epoch in trial.epochs
        if isinstance(epoch.get(measure), number) and isinstance(epoch["epoch"], number)
    ]
    if points:
        marker = "." if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), marker=marker, **style)  # type: ignore[arg-type]


def _dress(axes: Axes, trials: Sequence[Trial], measure: str) -> None:
    from matplotlib.ticker import MaxNLocator

    values = [e[measure] for t in trials for e in t.epochs if isinstance(e.get(measure), int | float)]
    if "loss" in measure and values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(measure.replace("_", " "))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e0e0e0", linewidth=0.6)


def _add_legend(figure: Figure, study: Study, best: Sequence[Row], others: bool) -> None:
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for row, colour, style in zip(best, COLOURS, STYLES, strict=False):
        searched = ", ".join(f"{key.replace('_', ' ')} {short(row.settings.get(key))}" for key in study.space)
        value = f"{study.metric.replace('_', ' ')} {short(row.value(study.metric))}"
        labels.append(f"trial {row.trial}: {value} ({searched})")
        handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=1.8))
    if others:
        labels.append("the others")
        handles.append(Line2D([], [], color="#9a9a9a", linewidth=0.8))
    figure.legend(handles, [_plain(label) for label in labels], loc="outside lower left", fontsize=8, frameon=False)


def _plain(text: str) -> str:
    return printable(text).replace("$", r"\$")  # or matplotlib takes what a file says for a formula


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    add_logs(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the pictures go (default: DIR/plots)")
    return parser.parse_args()


def main() -> int:
    """Draw and save the pictures."""
    arguments = parse_arguments()
    try:
        folder, study = open_study(arguments.logs)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    trials = [trial for trial in read_trials(folder) if trial.epochs]
    if not measures(trials):
        print(f"{arguments.logs}: no trial has reported an epoch yet; nothing to draw", file=sys.stderr)
        return 1
    out = arguments.out or folder.path / "plots"
    path = out / "learning-curves.png"
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_learning_curves(study, trials).savefig(path, dpi=150)
    except OSError as error:
        print(f"error: {error.filename or path}: {error.strerror}; choose another folder with --out", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
