"""A trial's file is its story: one JSON object a line, the settings first, the result last."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foldertune.nesting import flatten
from foldertune.protocol.files import BrokenFile, NotOurs, read_bytes
from foldertune.protocol.names import TrialName
from foldertune.protocol.proposal import SECONDS, Parent, Proposal, Record

YEAR = 365 * 86400.0  # if a trial seems to take longer, someone has set the clock
LAST_WORDS = (b'{"result"', b'{"error"')  # the beginnings of a story's last line


@dataclass
class Trial:
    """One trial's file, read. `epochs` are those of the last claim; `result` is None unless training succeeded."""

    name: TrialName
    settings: Record  # by dotted names: those of a table `model` are `model.width`, `model.depth`, …
    lease: float | None = None  # seconds of silence after which the master gives the trial to another worker
    timeout: float | None = None  # seconds an attempt may take
    parent: Parent | None = None  # the trial that this one goes on with
    why: Record = field(default_factory=dict)  # it is tried, as its strategy says
    resumed: str | None = None  # the checkpoint from which the last claim's training went on
    lost: list[str] = field(default_factory=list)  # why each earlier attempt was lost
    claim: Record = field(default_factory=dict)  # of the last worker; when (`until`) and why it has given it back
    earlier: list[Record] = field(default_factory=list)  # the claims of workers that gave it back before
    epochs: list[Record] = field(default_factory=list)
    result: Record | None = None
    error: str | None = None
    traceback: str | None = None  # of the error, if the training code raised it
    finished: str | None = None  # UTC, ISO 8601
    stopped: str | None = (
        None  # by which rule and why, if the result is what it had reported until it was stopped early
    )
    dropped: str | None = None  # by a person, in words: it counts, but has no rank; see drops.py
    is_verdict: bool = False  # written by the master, because the trial had used up its attempts: nobody claimed it

    @classmethod
    def from_records(cls, name: TrialName, records: Sequence[Record], path: str) -> Trial:
        """Read the story that `records` tell. Raises BrokenFile if the settings are missing or the result is broken."""
        if not records or not isinstance(records[0].get("settings"), dict):
            raise BrokenFile(f'{path}: the first line must be {{"settings": {{…}}}} and end with a newline')
        first = records[0]
        try:
            settings = flatten(first["settings"], values=_names(first.get("values")))
        except (ValueError, RecursionError) as error:
            raise BrokenFile(f"{path}: its settings: {error}") from None
        trial = cls(name, settings, _seconds(first.get("lease")), _seconds(first.get("timeout")))
        trial.parent = Parent.from_record(first.get("parent"))
        if isinstance(first.get("why"), dict):
            trial.why = first["why"]
        if isinstance(first.get("lost"), list):
            trial.lost = [str(reason) for reason in first["lost"]]
        for record in records[1:]:
            is_epoch = next(iter(record), None) == "epoch"  # its metrics may have any names, also `claimed` or `error`
            if "claimed" in record and not is_epoch:  # an earlier owner gave the trial back: its lines do not count
                if trial.claim:
                    trial.earlier.append(trial.claim)
                trial.claim, trial.epochs, trial.result = record, [], None
                trial.error = trial.traceback = trial.finished = trial.stopped = trial.resumed = None
            elif "given_back" in record and not is_epoch and trial.claim and "until" not in trial.claim:
                trial.claim = trial.claim | {"until": record.get("time"), "given_back": record["given_back"]}
            elif trial.is_over:
                continue  # lines after the last word do not count either
            elif "epoch" in record:
                trial.epochs.append(record)
            elif "resumed" in record:
                trial.resumed = _text(record["resumed"])
            elif "result" in record:
                if not isinstance(record["result"], dict):
                    raise BrokenFile(f"{path}: its result is not a JSON object")
                trial.result, trial.finished = record["result"], _text(record.get("time"))
                trial.stopped = _text(record.get("stopped"))
            elif "error" in record:
                trial.error, trial.finished = str(record["error"]), _text(record.get("time"))
                trial.traceback = _text(record.get("traceback"))
        trial.is_verdict = trial.error is not None and not trial.claim
        if name.state == "seen" and not trial.is_over:
            raise BrokenFile(f"{path}: ends without a result")
        if trial.result is not None and SECONDS not in trial.result and (seconds := trial.seconds_at_work) is not None:
            before = trial.parent.seconds if trial.parent and trial.resumed else None
            trial.result[SECONDS] = round(seconds + (before or 0.0), 3)
        return trial

    @property
    def proposal(self) -> Proposal:
        """What the master has published."""
        return Proposal(self.settings, self.parent, self.why)

    def without_result(self) -> Trial:
        """The same trial as if it had failed."""
        return replace(self, result=None, error=self.dropped)

    @property
    def is_over(self) -> bool:
        """Is there a last word, a result or an error?"""
        return self.result is not None or self.error is not None

    @property
    def seconds_at_work(self) -> float | None:
        """The time from the claim to the result, and before from each claim until the trial was given back."""
        seconds = _time_between(self.claim.get("time"), self.finished)
        if seconds is None:
            return None
        before = [_time_between(claim.get("time"), claim.get("until")) or 0.0 for claim in self.earlier]
        return round(sum(before, seconds), 3)

    @property
    def reached(self) -> str:
        """How far the training has come, in words that can follow a verb."""
        return f"after epoch {self.epochs[-1]['epoch']}" if self.epochs else "before its first report"

    @property
    def silence(self) -> str:
        """What is known of a worker that has left no last word."""
        owner = self.claim.get("claimed")
        return f"its worker {owner} died or fell silent {self.reached}" if owner else "no worker has said a word"

    def shortcoming(self, *metrics: str) -> str | None:
        """Why this trial has no result with these metrics that can be counted; None if it has one."""
        if self.error is not None:
            return self.error
        if self.result is None:
            return "ended without a result"
        for metric in metrics:
            if not isinstance(self.result.get(metric), int | float | None):
                return f"its result's {metric!r} is not a number"
            if metric not in self.result and metric != SECONDS:
                there, a = ", ".join([*self.result][:20]), "the" if len(metrics) == 1 else "a"
                return f"its result has no {metric!r}, {a} metric of this study (it has: {there})"
        return None


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time_between(start: Any, end: Any) -> float | None:
    times = parse_time(start), parse_time(end)
    if times[0] is None or times[1] is None or not 0 <= times[1] - times[0] < YEAR:
        return None
    return times[1] - times[0]


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else None


def parse_time(text: Any) -> float | None:
    """A UTC time in ISO 8601 as seconds since 1970; None if `text` is not such a time."""
    return _parse_time(text) if isinstance(text, str) else None


@functools.lru_cache(maxsize=2**16)  # an open view parses the same times again and again
def _parse_time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def utc_now() -> str:
    """The time, for people to read. No decision depends on it."""
    now = time.time()
    return f"{_whole_second(int(now))}.{int(now % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=1)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


# ---------------------------------------------------------------- lines


def to_line(record: Record) -> bytes:
    """One record as one line of strict JSON. A number that is not finite becomes null."""
    try:
        text = _ENCODER.encode(record)
    except ValueError:
        text = _ENCODER.encode(_finite(record))
    return text.encode(errors="backslashreplace") + b"\n"  # half a surrogate pair becomes JSON's own escape


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_records(
    path: str, *, epochs: bool = True, limit: int | None = None, inside: int | None = None, is_ours: bool = False
) -> list[Record]:
    """The lines of a file. A line without its newline does not exist: its writer died while writing it.

    Without `epochs`, lines that begin like an epoch's are skipped. Of a file with more than `limit` bytes only the
    first and the last lines are read: there stand the settings and the result, which no size may cost. `inside` and
    `is_ours`: see `files`. Raises BrokenFile if a line is not a JSON object or so large a file ends without a result,
    OSError if it can't be read.
    """
    records, data = [], read_bytes(path, limit, last_words=LAST_WORDS, inside=inside, is_ours=is_ours)
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        if not epochs and line.startswith(b'{"epoch"'):
            continue
        try:
            record = _DECODER.decode(line.decode())
        except (ValueError, RecursionError) as error:
            raise BrokenFile(f"{path}: line {number} is not JSON ({error})") from None
        if not isinstance(record, dict):
            raise BrokenFile(f"{path}: line {number} is not a JSON object")
        records.append(record)
    return records


def _whole_number(text: str) -> int | float:
    return int(text) if len(text) <= 20 else float(text)  # a number that no float can hold becomes infinite


# `json.loads` and `json.dumps` would make one for each call.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_int=_whole_number)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def read_object(path: Path) -> Record:
    """The one JSON object that fills a file such as study.json. Raises BrokenFile or OSError."""
    remedy = "move it away and start the master again"
    try:
        value = json.loads(read_bytes(str(path)))
    except NotOurs:
        raise
    except BrokenFile as error:
        raise BrokenFile(f"{error}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(value, dict):
        raise BrokenFile(f"{path}: not a JSON object; {remedy}")
    return value
