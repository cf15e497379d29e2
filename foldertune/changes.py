"""The changes of a study while it ran, as study.json keeps them: what, when, by whom, and from which trial on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

CHANGES = "changes"  # their list in study.json
PARTS = ("strategy", "repeats", "fixed", "space", "constraints", "fidelity", "before")  # what a change may change


@dataclass(frozen=True)
class Change:
    """A change of a study.

    Attributes:
        trial: trials below this number were chosen by the study as it was before.
        what: a line about each difference.
        was: the `PARTS` of the definition before, from which the settings of those trials can be computed again.
    """

    trial: int
    what: tuple[str, ...]
    was: dict[str, Any]
    time: str = ""
    by: str = ""

    def to_record(self) -> dict[str, Any]:
        """As in study.json."""
        return {"trial": self.trial, "time": self.time, "by": self.by, "what": list(self.what), "was": self.was}

    def in_words(self) -> str:
        """For people: `changed from trial 16 on (2026-11-26 by anna@gpu07): x: 0–1 becomes 0–2`."""
        return f"changed from trial {self.trial} on ({self.time[:10]} by {self.by}): {'; '.join(self.what)}"


def read_changes(listed: Any, fail: Callable[[str, str], NoReturn]) -> tuple[Change, ...]:
    """The changes in study.json, the first one first."""
    if not isinstance(listed, list):
        fail(CHANGES, f"must be a list, not {listed!r:.80}")
    return tuple(_read(place, each, fail) for place, each in enumerate(listed, start=1))


def _read(place: int, record: Any, fail: Callable[[str, str], NoReturn]) -> Change:
    kinds: dict[str, type] = {"trial": int, "time": str, "by": str, "what": list, "was": dict}
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
        fail(CHANGES, f"number {place} must be an object with {', '.join(kinds)}, as --change writes it")
    what = tuple(map(str, record["what"]))
    return Change(record["trial"], what, record["was"], record["time"], record["by"])
