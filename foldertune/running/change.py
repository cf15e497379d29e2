"""Changes the study in a folder while it runs: a wider space, another choice, a new hyperparameter.

The definition in study.json is replaced at once, with a record of the change. Whoever dies meanwhile leaves the old
study or the new one, whole. The files of trials stay as they are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from foldertune.changes import Change
from foldertune.changing import differences_in_words, parts_of
from foldertune.errors import StudyError, did_you_mean
from foldertune.protocol import BrokenFile, Folder, TrialName, host_name, user_name, utc_now
from foldertune.running.results_file import ResultsFile
from foldertune.space import Categorical
from foldertune.strategies import CHOICES, replanned
from foldertune.study import Study
from foldertune.study_file import study_from_record
from foldertune.text import counted, printable


def successor(there: Study, study: Study) -> Study:
    """The study with what its folder knows besides: what it began with, and its changes."""
    study = with_strategy_of(there, study)
    kept = {name: value for name, value in there.before.items() if name in study.space or name in study.fixed}
    before = {**kept, **study.before}
    return replanned(replace(study, first=there.first, known=there.known, before=before, changes=there.changes))


def with_strategy_of(there: Study, study: Study) -> Study:
    """The study, with the strategy that it began with if its file leaves the choice to us.

    The folder may name none but those that we would choose: another one may be anything, also a person's code.
    """
    if not study.why or there.strategy not in CHOICES:
        return study
    return replace(study, strategy=there.strategy, why=there.why)


def changed(folder: Folder, there: Study, study: Study, say: Callable[[str], None]) -> Study:
    """The study that the one in this folder becomes, with a record of the change. Says what is different.

    Raises StudyError if it can't become that; OSError while results that were counted are not there.

    Args:
        there: the study in the folder.
    """
    new, source = successor(there, study), study.name
    what = differences_in_words(there, new, source)
    ResultsFile(folder).complete(folder.settled())  # a missing result would be taken for a number that nobody uses
    names = {name.number: name for name in (*folder.withdrawn(), *folder.settled(), *folder.names())}
    first = first_free(number for number in names if number < there.most_trials)
    by = f"{user_name(os.geteuid())}@{host_name()}"
    change = Change(first, tuple(what), parts_of(there), utc_now(), by)
    new = replanned(replace(new, changes=(*there.changes, change)))
    new = study_from_record(new.to_record(), source)  # as every later start will read it
    outside = count_outside(folder, names.values(), there, new)
    for line in (*what, *strangers(study), *outside):
        say(f"{folder.path}: {printable(line)}")
    say(f"{folder.path}: changed from trial {first} on; workers that have loaded older training code: start them again")
    return new


def strangers(study: Study) -> list[str]:
    """A line for each value in [before] that is none of the choices: no strategy looks at trials that have it."""
    lines = []
    for name, value in study.before.items():
        dimension = study.space.get(name)
        if isinstance(dimension, Categorical) and not dimension.contains(value):
            choices = [choice for choice in dimension.choices if isinstance(choice, str)]
            lines.append(f"before.{name}: {value!r} is none of its choices{did_you_mean(str(value), choices)}")
    return lines


def first_free(numbers: Iterable[int]) -> int:
    """The number from which on the master will choose. Far higher ones, which persons have used, don't count."""
    first = 0
    for k, number in enumerate(sorted(numbers), start=1):
        if 2 * k > number:
            first = number + 1
    return first


def count_outside(folder: Folder, names: Iterable[TrialName], there: Study, study: Study) -> list[str]:
    """A line about the trials that lie outside of the changed space, if any do.

    Raises StudyError if trials lack a setting, and nothing says what they have instead.
    """
    folder.fill, outside, of = study.filled, 0, 0
    for name in names:
        with contextlib.suppress(BrokenFile, FileNotFoundError):
            settings = folder.read(name, epochs=False).settings
            for key, dimension in study.space.items():
                known = key in there.fixed or (key in there.space and there.space[key].is_active(settings))
                if not known and key not in settings and dimension.is_active(settings):
                    raise StudyError(
                        f"{study.name}: space.{key}: trial {name.number} does not have it; say what such trials have "
                        f"instead, in a table [before]: {key} = …"
                    )
            of += 1
            outside += not study.contains({**study.fixed, **settings})
    if not outside:
        return []
    lie = "lies" if outside == 1 else "lie"
    return [f"{outside} of {counted(of, 'trial')} {lie} outside of it now: they count, but no strategy looks at them"]


def renew_pending(folder: Folder, study: Study) -> None:
    """Withdraw pending trials that lack a setting which the study has now: the master publishes them anew, with it.

    It does so after each start: the one that has changed the study may have died.
    """
    if not study.before:
        return
    folder.fill = None
    for name in folder.names():
        with contextlib.suppress(BrokenFile, OSError):  # it was claimed since the listing, or the master judges it
            if name.state == "pending":
                settings = folder.read(name, epochs=False).settings
                if len(study.filled(settings)) > len(settings):
                    folder.withdraw(name)
