"""Who trained what when.

Times are those that the workers' hosts wrote down. They are for people: no decision is made by them, and a host whose
clock is wrong stands at the wrong place.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from foldertune.protocol import Trial
from foldertune.tables import finite

INSTANT = 1e-3  # seconds; times are told in milliseconds


@dataclass(frozen=True)
class Span:
    """One attempt at one trial by one worker, in seconds since 1970; a lost one ends with the last that it reported."""

    worker: str
    host: str
    number: int
    attempt: int
    start: float
    end: float
    state: str  # seen, lost, taken or done

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


def parse_time(text: Any) -> float | None:
    """Seconds since 1970 of a UTC time in ISO 8601; None if it is none."""
    return _parse_time(text) if isinstance(text, str) else None


@functools.lru_cache(maxsize=2**16)  # a view that stays open asks for the same ones at every look
def _parse_time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def span_of(trial: Trial) -> Span | None:
    """When and by whom an attempt was made; None if nobody wrote that down."""
    start, worker = parse_time(trial.claim.get("time")), trial.claim.get("claimed")
    if start is None or not isinstance(worker, str):
        return None
    reported = finite(trial.epochs[-1].get("seconds")) if trial.epochs else None
    end = parse_time(trial.finished) or start + (reported or 0.0)
    host, name = trial.claim.get("host"), trial.name
    return Span(worker, str(host or "?"), name.number, name.attempt, start, max(start, end), name.state)


def find_spans(trials: Iterable[Trial]) -> list[Span]:
    """All attempts that left a trace, in the order of their starts; those in hand last until the latest time known."""
    found = [span for span in map(span_of, trials) if span is not None]
    latest = max((span.end for span in found), default=0.0)
    found = [replace(span, end=latest) if span.state in ("taken", "done") else span for span in found]
    return sorted(found, key=lambda span: (span.start, span.number, span.attempt))


def most_at_once(spans: Sequence[Span]) -> int:
    """The largest number of workers that worked at the same time."""
    ends = [(max(span.end, span.start + INSTANT), -1) for span in spans]
    events = sorted([(span.start, 1) for span in spans] + ends)  # an end before a start at that time
    now, most = 0, 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def elapsed(spans: Sequence[Span]) -> float:
    """Seconds from the first start to the last end; 0.0 for none."""
    return max(span.end for span in spans) - min(span.start for span in spans) if spans else 0.0
