"""The times at which workers trained their trials.

They are the times that the workers' hosts wrote down. They are for people: nothing is decided by them, and if a host's
clock is wrong, its trials appear at the wrong time.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

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


def _limits(trials: Iterable[Trial], spans: Iterable[Span]) -> Callable[[int, int], float]:
    """Tells when a trial's next attempt began, or the master gave its verdict after this one; infinite if neither."""
    later: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for span in spans:
        later[span.number].append((span.attempt, span.start))
    for trial in trials:
        if trial.is_verdict and (time := parse_time(trial.finished)):  # it bears the number of the last attempt
            later[trial.name.number].append((trial.name.attempt + 1, time))
    return lambda number, attempt: min((pair for pair in later[number] if pair[0] > attempt), default=(0, math.inf))[1]


@dataclass(frozen=True)
class Work:
    """Spans in the order of their starts, and what they tell together."""

    spans: list[Span]

    @classmethod
    def of(cls, trials: Iterable[Trial], heard: Mapping[TrialName, float]) -> Work:
        """All attempts that left a trace.

        An attempt in hand ends with its last heartbeat, or else at the latest known time. So does a lost one that left
        no last word, if that was before anything later befell the trial: otherwise the folder was copied, and the
        times of its files tell nothing.

        Args:
            heard: the times of the last heartbeats, in seconds since 1970.
        """
        trials = list(trials)
        found = [span for trial in trials for span in spans_of(trial)]
        latest, after = max((span.end for span in found), default=0.0), _limits(trials, found)
        said = {(trial.name.number, trial.name.attempt) for trial in trials if parse_time(trial.finished)}
        signs = {(name.number, name.attempt): time for name, time in heard.items()}
        for k, span in enumerate(found):
            attempt = span.number, span.attempt
            sign = signs.get(attempt)
            if span.state == "taken":
                found[k] = replace(span, end=latest if sign is None else max(span.start, sign))
            elif span.state == "lost" and attempt not in said and sign and sign <= after(*attempt):
                found[k] = replace(span, end=max(span.end, sign))
        return cls(sorted(found, key=lambda span: (span.start, span.number, span.attempt)))

    def until(self, now: float, running: Collection[int]) -> Work:
        """The same work, but that on the running trials goes on until `now`."""
        on = [span.state == "taken" and span.number in running for span in self.spans]
        return Work([replace(s, end=max(s.end, now)) if is_on else s for s, is_on in zip(self.spans, on, strict=True)])

    @cached_property
    def counted(self) -> Work:
        """The work on the trials that are counted."""
        return Work([span for span in self.spans if span.state == "seen"])

    @cached_property
    def times(self) -> list[tuple[float, float]]:
        """The times during which anyone trained, each with its start and end, with the short breaks between trials."""
        times: list[tuple[float, float]] = []
        for start, end in sorted((span.start, span.end) for span in self.spans):
            if times and start - times[-1][1] <= PAUSE:
                times[-1] = times[-1][0], max(times[-1][1], end)
            else:
                times.append((start, end))
        return times

    @cached_property
    def at_work(self) -> float:
        """Seconds during which anyone trained, without the long breaks."""
        return math.fsum(end - start for start, end in self.times)

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
        most = max(itertools.accumulate(change for _, change in events), default=0)
        return min(most, len(self.workers))  # one worker's trials of an instant follow each other

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
