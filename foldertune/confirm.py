"""Confirmation: when the budget is spent, the best settings are trained again with new seeds.

The best of many trials was lucky, too: its value is better than that of its settings. So the winner is that of the best
mean over trainings that were not chosen for their values. `finalists.py` says which settings are confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from foldertune.errors import did_you_mean

TABLE = "confirm"  # its table in a study's file
CONFIRMS, REPEAT = "confirms", "repeat"  # in a trial's `why`: the trial whose settings are trained again; which time
FIRST = 1_000_000  # the numbers of confirmations begin here, so that a search may be extended below
MOST_REPEATS, MOST_CONFIRMED = 99, 10**8  # repeats of one trial; numbers of trials, which repeat after that


@dataclass(frozen=True)
class Confirm:
    """How many settings are confirmed, and how many times each is trained."""

    best: int = 5
    repeats: int = 5

    @property
    def trials(self) -> int:
        """The number of confirmations."""
        return self.best * self.repeats

    @property
    def in_words(self) -> str:
        """As in `40 trials, then 25 more to confirm the best 5`."""
        return f"then {self.trials} more to confirm the best {self.best}"

    def to_record(self) -> dict[str, int]:
        """As in a study's file."""
        return asdict(self)


def read_confirm(table: Any, fail: Callable[[str, str], NoReturn]) -> Confirm | None:
    """What a study's definition says; None if nothing is confirmed."""
    if table is None:
        return None
    if not isinstance(table, dict):
        fail(TABLE, f"must be a table, [{TABLE}], with best = 5 and repeats = 5, not {table!r}")
    known = tuple(asdict(Confirm()))
    for key, value in table.items():
        if key not in known:
            fail(f"{TABLE}.{key}", f"unknown key{did_you_mean(key, known)}; known: {', '.join(known)}")
        if not isinstance(value, int) or isinstance(value, bool):
            fail(f"{TABLE}.{key}", f"must be a whole number, not {value!r}")
        if value < 1:
            fail(f"{TABLE}.{key}", f"must be at least 1, not {value}")
    if table.get("repeats", 1) > MOST_REPEATS:
        fail(f"{TABLE}.repeats", f"must be at most {MOST_REPEATS}, not {table['repeats']}")
    return Confirm(**table)


def confirmed_by(why: Mapping[str, Any]) -> int | None:
    """The trial that a trial confirms, by what its file says about why it exists; None if it is part of the search."""
    number = why.get(CONFIRMS)
    return number if type(number) is int else None


def number_of(trial: int, repeat: int) -> int:
    """The number of a confirmation, from 1 for the first: 1000703 is the third of trial 7."""
    return FIRST + (MOST_REPEATS + 1) * (trial % MOST_CONFIRMED) + repeat


def told_by(number: int) -> tuple[int, int]:
    """The trial and the repeat that the number of a confirmation tells."""
    return divmod(number - FIRST, MOST_REPEATS + 1)
