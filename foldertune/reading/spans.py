"""The times at which workers trained their trials.

They are the times that the workers' hosts wrote down. They are for people: nothing is decided by them, and if a host's
clock is wrong, its trials appear at the wrong time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from foldertune.protocol import Trial, TrialName, parse_time
from foldertune.tables import finite

INSTANT = 1e-3  # seconds; times are written in milliseconds
PAUSE = 10.0  # seconds; while nobody trains for longer, the search is not at work
GIVEN_BACK = "given back"


@dataclass(frozen=True)
class Span:
    """One attempt at one trial by one worker, in seconds since 1970."""

    worker: str
    host: str
    number: int
    attempt: int
    start: float
    end: float
    state: str  # seen, lost, taken, done or given back

    @property
    def seconds(self) -> float:
        """The time that the attempt took."""
        return self.end - self.start


def spans_of(trial: Trial) -> list[Span]:
    """The spans of an attempt, and of the earlier ones that were given back; without those that name no time."""
    claims = [*trial.earlier, trial.claim]
    found = []
    for before, claim in zip(range(len(claims) - 1, -1, -1), claims, strict=True):
        start, worker = parse_time(claim.get("time")), claim.get("claimed")
        if start is None or not isinstance(worker, str):
            continue
        given_back = before > 0 or "until" in claim
        end = parse_time(claim.get("until")) or start
        if not given_back:
            reported = finite(trial.epochs[-1].get("seconds")) if trial.epochs else None
            end = parse_time(trial.finished) or start + (reported or 0.0)
        number, attempt = trial.name.number, trial.name.attempt - before
        state = GIVEN_BACK if given_back else trial.name.state
        found.append(Span(worker, str(claim.get("host") or "?"), number, attempt, start, max(start, end), state))
    return found


def find_spans(trials: Iterable[Trial], heard: Mapping[TrialName, float]) -> list[Span]:
    """All attempts that left a trace, in the order of their starts.

    An attempt in hand ends with its last heartbeat, or else at the latest known time. So does a lost one, if that was
    before the trial's next attempt: otherwise the folder was copied, and the times of its files tell nothing.

    Args:
        heard: the times of the last heartbeats, in seconds since 1970.
    """
    trials = list(trials)
    found = [span for trial in trials for span in spans_of(trial)]
    latest, ended = max((span.end for span in found), default=0.0), {(s.number, s.attempt): s.start for s in found}
    ended |= {(t.name.number, t.name.attempt): parse_time(t.finished) or math.inf for t in trials if not t.claim}
    signs = {(name.number, name.attempt): time for name, time in heard.items()}
    for k, span in enumerate(found):
        sign = signs.get((span.number, span.attempt))
        if span.state == "taken":
            found[k] = replace(span, end=latest if sign is None else max(span.start, sign))
        elif span.state == "lost" and sign and sign <= ended.get((span.number, span.attempt + 1), math.inf):
            found[k] = replace(span, end=max(span.end, sign))
    return sorted(found, key=lambda span: (span.start, span.number, span.attempt))


def most_at_once(spans: Sequence[Span]) -> int:
    """The largest number of workers that worked at the same time."""
    ends = [(max(span.end, span.start + INSTANT), -1) for span in spans]
    events = sorted([(span.start, 1) for span in spans] + ends)  # at equal times, ends come before starts
    now, most = 0, 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def elapsed(spans: Sequence[Span]) -> float:
    """Seconds from the first start to the last end; 0.0 without spans."""
    return max(span.end for span in spans) - min(span.start for span in spans) if spans else 0.0


def time_at_work(spans: Iterable[Span]) -> float:
    """Seconds during which anyone trained, with the short breaks between two trials, but without the long ones."""
    return math.fsum(end - start for start, end in times_at_work(spans))


def times_at_work(spans: Iterable[Span]) -> list[tuple[float, float]]:
    """The times during which anyone trained, each with its start and end."""
    times: list[tuple[float, float]] = []
    for start, end in sorted((span.start, span.end) for span in spans):
        if times and start - times[-1][1] <= PAUSE:
            times[-1] = times[-1][0], max(times[-1][1], end)
        else:
            times.append((start, end))
    return times
