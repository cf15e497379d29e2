"""What the master's command line can give a new search to begin with."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldertune.commands.options import path, whole_number
from foldertune.confirm import CONFIRMS
from foldertune.errors import StudyError, UserError
from foldertune.metrics import Known, Losses
from foldertune.protocol import Trial
from foldertune.reading.archive import is_study
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from foldertune.rows import PARENT, SUCCEEDED
from foldertune.space import identity
from foldertune.space_file import SpaceReader
from foldertune.stopping import is_cut_short
from foldertune.strategies import check_first, check_known
from foldertune.strategies.drawing import evenly
from foldertune.strategies.model import most_useful
from foldertune.strategies.rungs import BEHIND
from foldertune.study import Study
from foldertune.text import amount, counted
from foldertune.warm_start import is_results, read_first, read_list

BEST = 5  # of other results, if nobody says how many
Scored = tuple[Trial, Losses]


def add_first(parser: argparse.ArgumentParser) -> None:
    """Add the options --first, --first-best and --from."""
    group = parser.add_argument_group("what is known already (it is kept in the folder; say it once)")
    group.add_argument(
        "--first", type=path, metavar="FILE",
        help="try these settings first: a CSV, a JSON list, one JSON object a line; or the best of a results.csv or of "
        "another study's folder",
    )  # fmt: skip
    group.add_argument(
        "--first-best", type=whole_number(1), metavar="N", help=f"how many of those results (default: {BEST})"
    )
    group.add_argument(
        "--from", dest="known", type=path, metavar="DIR",
        help="show the results in another study's folder to a strategy that learns; they are not trained again",
    )  # fmt: skip


def with_first(arguments: argparse.Namespace, study: Study, say: Callable[[str], None] = print) -> Study:
    """The study with what the options tell it to begin with. Raises UserError."""
    if arguments.first_best and not arguments.first:
        raise UserError("--first-best: of what? add --first with a results.csv or the folder of a study")
    if arguments.first:
        source = f"--first {arguments.first}"
        listed = _best(arguments.first, source, study, arguments.first_best)
        first = read_first(SpaceReader({}, source), listed, study.space, study.fixed)
        study = replace(study, first=(*study.first, *first))
        check_first(study, source)
        outside = sum(not _lies_in(study, each) for each in first)
        say(f"{source}: {counted(len(first), 'trial')} to begin with" + _outside(outside, "tried all the same"))
    if arguments.known:
        source = f"--from {arguments.known}"
        check_known(study, source)
        trials, shorter = _comparable(arguments.known, study, source)
        settings = [_of_the_space(study, trial) for trial, _ in trials]
        there = [place for place, each in enumerate(settings) if study.contains({**each, **study.fixed})]
        shown = most_useful({place: trials[place][1] for place in there})
        known = [Known(settings[k], _values(study, trials[k][1])) for k in shown]
        behind = [each for trial in shorter if study.contains({**(each := _of_the_space(study, trial)), **study.fixed})]
        known += [Known(each, ()) for each in evenly(behind, BEHIND * len(shown))]
        study = replace(study, known=tuple(known))
        others = f", and {len(known) - len(shown)} that its schedule left behind" if len(known) > len(shown) else ""
        say(f"{source}: {counted(len(shown), 'result')} known{others}" + _outside(len(trials) - len(there), "left out"))
    return study


def _outside(number: int, then: str) -> str:
    are = "lies" if number == 1 else "lie"
    return (
        f"; {number} {are} outside of the search space, and {'is' if number == 1 else 'are'} {then}" if number else ""
    )


def _lies_in(study: Study, settings: dict[str, Any]) -> bool:
    """Do the values of all hyperparameters that are there lie in the search space?"""
    return all(name not in settings or each.contains(settings[name]) for name, each in study.space.items())


def _of_the_space(study: Study, trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in trial.settings.items() if name in study.space}


def _best(place: Path, source: str, study: Study, most: int | None) -> list[dict[str, Any]]:
    """The settings in a list; of results, the best."""
    if place.is_dir():
        longest, others = _trials(place, study, source)
        return _distinct([_of_the_space(study, trial) for trial, _ in (*longest, *others)])[: most or BEST]
    if is_study(place.parent) and place.name == "results.csv":  # the trials' files know the values exactly
        return _best(place.parent, source, study, most)
    listed = read_list(place, source, study.space)
    if not is_results(listed):
        if most:
            raise UserError(f"--first-best {most}: {place} is no table of results; all its settings are tried")
        return listed
    parents = {row.get(PARENT) for row in listed} if PARENT not in study.space else set()  # others went on with them
    whole = (row for row in listed if row["status"] == SUCCEEDED and row["trial"] not in parents)
    known = [row for row in whole if not _confirms(study, row)]
    values = [(row, study.losses(row)) for row in known]
    rows = [row for row, _ in _best_first(study, values, source)]
    return _distinct([{name: row[name] for name in study.space if name in row} for row in rows])[: most or BEST]


def _distinct(several: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """These settings, each once."""
    return [*{identity(settings): settings for settings in several}.values()]


def _confirms(study: Study, row: dict[str, Any]) -> bool:
    """Does this row of results only repeat the settings of another one?"""
    return CONFIRMS not in study.space and row.get(CONFIRMS) not in (None, "")


def _trials(place: Path, study: Study, source: str) -> tuple[list[Scored], list[Scored]]:
    """The trials of another study that have a value of each metric of this one, the best in the first one first.

    The longest trainings, and the others: with a schedule their values can't be compared. Of each training it is the
    last trial; confirmations repeat settings, and what was cut short says little.
    """
    found = _read(place, source)
    last = [trial for trial in found.tried if trial.name not in found.gone_on]
    whole = [trial for trial in last if not is_cut_short(trial.stopped)] or last
    ranked = _best_first(study, [(trial, study.losses(trial.result)) for trial in whole], source)
    highest = max(found.level(trial) for trial, _ in ranked)
    longest = [pair for pair in ranked if found.level(pair[0]) == highest]
    return longest, [pair for pair in ranked if found.level(pair[0]) < highest]


def _comparable(place: Path, study: Study, source: str) -> tuple[list[Scored], list[Trial]]:
    """The trials of another study with which those of this one can be compared, and what was left behind before that.

    With a schedule here, they have trained as long as a whole training does here, also if others have gone on.
    """
    if not study.fidelity or not study.is_scheduled:
        longest, shorter = _trials(place, study, source)
        return longest, [trial for trial, _ in shorter]
    found, setting, highest = _read(place, source), study.fidelity.setting, study.fidelity.highest or 0
    whole = [t for t in found.tried if study.trains_whole(t.settings) and not is_cut_short(t.stopped)]
    if not whole:
        raise StudyError(f"{source}: no trial there has {setting} = {amount(highest)}, as whole trainings have here; "
                         f"leave this option out")  # fmt: skip
    lengths = ((trial, trial.settings.get(setting)) for trial in found.tried if trial.name not in found.gone_on)
    behind = [trial for trial, length in lengths if isinstance(length, int | float) and length < highest]
    return _best_first(study, [(trial, study.losses(trial.result)) for trial in whole], source), behind


def _read(place: Path, source: str) -> Results:
    try:
        return read_results(place, epochs=False)
    except OSError as error:
        raise StudyError(f"{source}: can't be read: {error.strerror}") from None


def _best_first(study: Study, listed: Sequence[tuple[Any, Losses | None]], source: str) -> list[tuple[Any, Losses]]:
    known = [(each, losses) for each, losses in listed if losses is not None]
    if not known:
        names, plural = " and ".join(f"'{name}'" for name in study.metric_names), "s" * bool(study.others)
        raise StudyError(f"{source}: has no trial with {names}, the metric{plural} of this study")
    return sorted(known, key=lambda pair: pair[1])


def _values(study: Study, losses: Losses) -> tuple[float, ...]:
    return tuple(metric.sign * loss for metric, loss in zip(study.metrics, losses, strict=True))
