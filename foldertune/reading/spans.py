"""The times at which workers trained their trials.

They are the times that the workers' hosts wrote down. They are for people: nothing is decided by them, and if a host's
clock is wrong, its trials appear at the wrong time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from foldertune.protocol import Trial
from foldertune.tables import finite

INSTANT = 1e-3  # seconds; times are written in milliseconds


@dataclass(frozen=True)
class Span:
    """One attempt at one trial by one worker, in seconds since 1970. A lost attempt ends with its last report."""

    worker: str
    host: str
    number: int
    attempt: int
    start: float
    end: float
    state: str  # seen, lost, taken or done

    @property
    def seconds(self) -> float:
        """The time that the attempt took."""
        return self.end - self.start


def parse_time(text: Any) -> float | None:
    """A UTC time in ISO 8601 as seconds since 1970; None if `text` is not such a time."""
    return _parse_time(text) if isinstance(text, str) else None


@functools.lru_cache(maxsize=2**16)  # an open view parses the same times again and again
def _parse_time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def span_of(trial: Trial) -> Span | None:
    """The span of an attempt; None if its file does not name the worker and the time."""
    start, worker = parse_time(trial.claim.get("time")), trial.claim.get("claimed")
    if start is None or not isinstance(worker, str):
        return None
    reported = finite(trial.epochs[-1].get("seconds")) if trial.epochs else None
    end = parse_time(trial.finished) or start + (reported or 0.0)
    host, name = trial.claim.get("host"), trial.name
    return Span(worker, str(host or "?"), name.number, name.attempt, start, max(start, end), name.state)


@dataclass(frozen=True)
class Work:
    """Spans in the order of their starts, and what they tell together."""

    spans: list[Span]

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Work:
        """All attempts that left a trace. Attempts in hand end at the latest known time."""
        found = [span for span in map(span_of, trials) if span is not None]
        latest = max((span.end for span in found), default=0.0)
        found = [replace(span, end=latest) if span.state in ("taken", "done") else span for span in found]
        return cls(sorted(found, key=lambda span: (span.start, span.number, span.attempt)))

    @cached_property
    def counted(self) -> Work:
        """The work on the trials that are counted."""
        return Work([span for span in self.spans if span.state == "seen"])

    @cached_property
    def began(self) -> float | None:
        """The time of the first claim, in seconds since 1970."""
        return min((span.start for span in self.spans), default=None)

    @cached_property
    def seconds(self) -> float:
        """Seconds from the first claim to the last report; 0.0 without spans."""
        return max(span.end for span in self.spans) - self.began if self.began is not None else 0.0

    @cached_property
    def most_at_once(self) -> int:
        """The largest number of workers that worked at the same time."""
        ends = [(max(span.end, span.start + INSTANT), -1) for span in self.spans]
        events = sorted([(span.start, 1) for span in self.spans] + ends)  # at equal times, ends come before starts
        return max(itertools.accumulate(change for _, change in events), default=0)

    @cached_property
    def workers(self) -> list[str]:
        """All workers, in the order of their first claims."""
        return list(dict.fromkeys(span.worker for span in self.spans))

    @cached_property
    def machines(self) -> list[str]:
        """The names of all hosts, in the order of their first claims."""
        return list(dict.fromkeys(span.host for span in self.spans))

    def timeline(self, most: int) -> dict[str, list[Span]]:
        """The spans of each worker, by host. Of more than `most` workers, those that lost an attempt come first."""
        lines: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: (span.host, span.start)):
            lines.setdefault(span.worker, []).append(span)
        if len(lines) <= most:
            return lines
        losers = {span.worker for span in self.spans if span.state == "lost"}
        return {worker: lines[worker] for worker in sorted(lines, key=lambda worker: worker not in losers)[:most]}
