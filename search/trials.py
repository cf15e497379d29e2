"""A trial is one file: its name is its state, its lines are its story.

    logs/trial-00007-1.jsonl                         pending   written whole by the master
    logs/trial-00007-1.jsonl.gpu07-4711-k3f9.taken   running   claimed by one worker (host-pid-random)
    logs/trial-00007-1.jsonl.done                    finished  result inside
    logs/seen/trial-00007-1.jsonl.seen               collected by the master, in the results table
    logs/seen/trial-00007-1.jsonl.lost               an attempt that ended without a result; -2 is its next

`00007` is the trial, `-1` the attempt. Each line is one JSON object:

    {"settings": {"learning_rate": 0.1, …}, "lease": 180}      the master: what to train
    {"claimed": "gpu07-4711-k3f9", "host": "gpu07", …}         the worker: who trains it
    {"epoch": 1, "training_loss": 0.91, …}                     the worker, after every epoch
    {"result": {"validation_error": 0.031, …}, "time": …}      the worker, last; or {"error": …, "traceback": …}

Every change of state is one `rename`, and every name and every rename of the protocol is in this module.
Nothing here locks: of all who rename one name, the filesystem lets one succeed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
import random
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 2**20  # a trial's file is some kilobytes; one beyond this is not a trial
MAX_NAME = 40  # characters of a host name that go into a file name

Record = dict[str, Any]


class LeaseLost(Exception):
    """The trial's file no longer has the name this worker gave it: somebody else decided its fate."""


class BrokenFile(Exception):
    """A file does not hold what its name promises. The message gives the path, what is wrong and the remedy."""


# ---------------------------------------------------------------- names


@dataclass(frozen=True)
class TrialName:
    """One attempt at one trial, in one state: all that a file name says."""

    number: int
    attempt: int
    state: str = "pending"  # pending, taken, done, seen or lost
    owner: str = ""  # of a taken trial: host-pid-random

    _PATTERN = re.compile(
        r"trial-(\d{5,12})-(\d{1,9})\.jsonl(?:\.([A-Za-z0-9_-]+)\.(taken)|\.(done|seen|lost))?", re.ASCII
    )

    def __str__(self) -> str:
        stem = f"trial-{self.number:05d}-{self.attempt}.jsonl"
        if self.state == "pending":
            return stem
        return f"{stem}.{self.owner}.taken" if self.state == "taken" else f"{stem}.{self.state}"

    @classmethod
    def parse(cls, text: str) -> TrialName | None:
        """The name that `text` spells, or None if it is no trial's (only the one spelling of a name counts)."""
        match = cls._PATTERN.fullmatch(text)
        if not match:
            return None
        number, attempt, owner, taken, settled = match.groups()
        name = cls(int(number), int(attempt), taken or settled or "pending", owner or "")
        return name if str(name) == text else None

    def to(self, state: str, owner: str = "") -> TrialName:
        """The same attempt in another state."""
        return replace(self, state=state, owner=owner)

    def next_attempt(self) -> TrialName:
        """The pending name under which the trial is tried again."""
        return TrialName(self.number, self.attempt + 1)

    @property
    def label(self) -> str:
        """For people: `7`, or `7 (attempt 2)`."""
        return f"{self.number}" if self.attempt == 1 else f"{self.number} (attempt {self.attempt})"


def new_owner() -> str:
    """A token no other process has: host-pid-random."""
    host = re.sub(r"[^A-Za-z0-9_-]", "_", host_name()) or "host"
    letters = "".join(random.SystemRandom().choices("abcdefghijkmnpqrstuvwxyz23456789", k=4))
    return f"{host[:MAX_NAME]}-{os.getpid()}-{letters}"


@functools.cache
def host_name() -> str:
    """This machine's name, without its domain."""
    return socket.gethostname().split(".")[0]


def utc_now() -> str:
    """The time, for people to read. No decision depends on it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def printable(text: str) -> str:
    """For a terminal: what a file says, without the characters that would be commands to it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# ---------------------------------------------------------------- lines


@dataclass
class Trial:
    """One trial's file, read. `epochs` are those of the last claim; `result` is None unless training ended."""

    name: TrialName
    settings: Record
    lease: float | None = None  # seconds without a sign of life until the master gives the trial to another
    lost: list[str] = field(default_factory=list)  # why each earlier attempt was lost
    claim: Record = field(default_factory=dict)
    epochs: list[Record] = field(default_factory=list)
    result: Record | None = None
    error: str | None = None
    finished: str | None = None  # UTC, ISO 8601

    @classmethod
    def from_records(cls, name: TrialName, records: Sequence[Record], path: str) -> Trial:
        """Read the story that `records` tell. Raises BrokenFile if it has no settings or a result that is none."""
        if not records or not isinstance(records[0].get("settings"), dict):
            raise BrokenFile(f'{path}: the first line must be {{"settings": {{…}}}} and end with a newline')
        first = records[0]
        trial = cls(name, first["settings"])
        if isinstance(first.get("lease"), int | float) and first["lease"] > 0:
            trial.lease = float(first["lease"])
        if isinstance(first.get("lost"), list):
            trial.lost = [str(reason) for reason in first["lost"]]
        for record in records[1:]:
            if "claimed" in record:  # what an earlier owner wrote, who gave the trial back, does not count
                trial.claim, trial.epochs, trial.result, trial.error = record, [], None, None
            elif trial.result is not None or trial.error is not None:
                continue  # nor does what comes after the last word
            elif "epoch" in record:
                trial.epochs.append(record)
            elif "result" in record:
                if not isinstance(record["result"], dict):
                    raise BrokenFile(f"{path}: its result is not a JSON object")
                trial.result, trial.finished = record["result"], _text(record.get("time"))
            elif "error" in record:
                trial.error, trial.finished = str(record["error"]), _text(record.get("time"))
        return trial

    def shortcoming(self, metric: str | None) -> str | None:
        """Why this is no result that can be counted; None if it is one."""
        if self.error is not None:
            return self.error
        if self.result is None:
            return "ended without a result"
        if metric is not None and not isinstance(self.result.get(metric), int | float | None):
            return f"its result's {metric!r} is not a number"
        if metric is not None and metric not in self.result:
            return f"its result has no {metric!r}, the metric of this study (it has: {', '.join(self.result)})"
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def to_line(record: Record) -> bytes:
    """One record as one line of strict JSON; a number that is not finite becomes null."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace") + b"\n"  # half a surrogate pair becomes JSON's own escape


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_records(path: str) -> list[Record]:
    """The lines of a file. A line without its newline does not exist: its writer died in the middle of it.

    Raises BrokenFile if a line is no JSON object, and OSError if there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.ENXIO):
            raise BrokenFile(f"{path}: can't be read ({error.strerror})") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenFile(f"{path}: not a regular file")
        if status.st_size > MAX_BYTES:
            raise BrokenFile(f"{path}: {status.st_size:,} bytes, more than a trial's {MAX_BYTES:,}")
        data = _read_all(descriptor)
    finally:
        os.close(descriptor)
    records = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            raise BrokenFile(f"{path}: line {number} is not JSON ({error})") from None
        if not isinstance(record, dict):
            raise BrokenFile(f"{path}: line {number} is not a JSON object")
        records.append(record)
    return records


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 2**20):
        parts.append(part)
        if len(parts) * 2**20 > 2 * MAX_BYTES:  # it grows as we read
            break
    return b"".join(parts)


def append_line(path: str, record: Record, *, sync: bool = False) -> None:
    """Append one line by one write, to a file that must be there; `sync`: return when it is on stable storage.

    Raises LeaseLost if there is no such name any more, OSError if the line could not be written whole.
    """
    line = to_line(record)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            raise LeaseLost(path) from None
        raise
    try:
        written = os.write(descriptor, line)
        if written != len(line):  # take back our half of a line: the next append must not join it
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: str) -> None:
    """Return when what is in that file is on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path | str, data: bytes, *, sync: bool = False) -> None:
    """Make `path` appear whole, or be replaced whole: temporary name in the same folder, write, rename."""
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{random.getrandbits(32):08x}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write_all(descriptor, data)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _rename(source: str, target: str) -> bool:
    """Change a state. True if `target` is there now by our doing, False if `source` was gone.

    On a network the reply to a rename that succeeded can be lost, and its repetition finds the source gone:
    so whoever renamed looks for the target, which nobody else would have made, before believing the error.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if os.path.lexists(target):
            return True
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


# ---------------------------------------------------------------- the folder


class Folder:
    """The shared folder of one study."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.seen = self.path / "seen"
        self.study = self.path / "study.json"
        self.study_done = self.path / "study.json.done"
        self.results = self.path / "results.csv"

    def locate(self, name: TrialName) -> str:
        """Where the file of that name is."""
        parent = self.seen if name.state in ("seen", "lost") else self.path
        return f"{parent}/{name}"

    def names(self) -> list[TrialName]:
        """The work in hand: pending, taken and done. One listing: a name not in it may still be there."""
        return _listing(self.path, ("pending", "taken", "done"))

    def settled(self) -> list[TrialName]:
        """What the master has dealt with: seen and lost."""
        return _listing(self.seen, ("seen", "lost"))

    def read(self, name: TrialName) -> Trial:
        """The trial in that file. Raises BrokenFile, or OSError if the file is gone."""
        path = self.locate(name)
        return Trial.from_records(name, read_records(path), path)

    def signature(self, name: TrialName) -> tuple[int, ...]:
        """What changes when the owner of that file shows a sign of life. Raises OSError if the file is gone."""
        status = os.lstat(self.locate(name))
        return status.st_ino, status.st_size, status.st_mtime_ns

    # ---- the master

    def publish(self, name: TrialName, settings: Record, *, lease: float, lost: Sequence[str] = ()) -> None:
        """Offer a trial to the workers. Not synced: settings lost with the power are written again."""
        first: Record = {"settings": settings, "lease": lease}
        if lost:
            first["lost"] = list(lost)
        write_whole(self.locate(name), to_line(first))

    def collect(self, name: TrialName) -> TrialName | None:
        """Count a trial that has a result. None if its file went elsewhere meanwhile."""
        if name.state == "taken":  # its worker died between the result and `.done`: perhaps before the sync
            sync(self.locate(name))
        return self._settle(name, name.to("seen"))

    def lose(self, name: TrialName) -> TrialName | None:
        """Set an attempt aside that has no result to count. Its file is kept as it is."""
        return self._settle(name, name.to("lost"))

    def record_failure(self, name: TrialName, settings: Record, lost: Sequence[str]) -> TrialName:
        """Count a trial that has used up its attempts: a file of its own says why, beside the lost ones."""
        seen = name.to("seen")
        lines = to_line({"settings": settings, "lost": list(lost)})
        lines += to_line({"error": lost[-1] if lost else "lost", "time": utc_now()})
        write_whole(self.locate(seen), lines, sync=True)
        return seen

    def _settle(self, name: TrialName, target: TrialName) -> TrialName | None:
        return target if _rename(self.locate(name), self.locate(target)) else None

    def write_study(self, definition: Record) -> None:
        """Write study.json; a study that was complete is open again."""
        if self.study_done.exists():
            os.rename(self.study_done, self.study)
        text = json.dumps(definition, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        write_whole(self.study, text.encode(), sync=True)

    def read_study(self) -> Record | None:
        """The study's definition; None before a master has come. Raises BrokenFile."""
        for path in (self.study, self.study_done, self.study):
            try:
                return read_object(path)
            except FileNotFoundError:
                continue
        return None

    def complete_study(self) -> None:
        """Tell the workers that nothing more will come."""
        _rename(str(self.study), str(self.study_done))

    def is_complete(self) -> bool:
        """Has the study ended? Waiting workers then go home."""
        return self.study_done.exists() and not self.study.exists()

    def remove_leftovers(self) -> int:
        """Remove temporary files of masters that died. Only for the one master: nobody else writes any here."""
        count = 0
        for parent in (self.path, self.seen):
            for leftover in parent.glob(".*.tmp"):
                _remove(str(leftover))
                count += 1
        return count

    # ---- the worker

    def claim(self, owner: str, candidates: Iterator[TrialName]) -> Claim | None:
        """Take the first of the candidates that nobody else was faster to take."""
        for name in candidates:
            taken = name.to("taken", owner)
            if _rename(self.locate(name), self.locate(taken)):
                return Claim(self, taken)
        return None

    def candidates(self) -> Iterator[TrialName]:
        """One worker's share of the pending trials, drawn at random: workers seldom reach for the same one."""
        texts = _list(self.path)
        pending = [text for text in texts if text.endswith(".jsonl")]
        share = math.ceil(len(pending) / (1 + sum(text.endswith(".taken") for text in texts)))
        names = map(TrialName.parse, random.sample(pending, share))  # parsed as they are asked for
        return (name for name in names if name is not None)


class Claim:
    """One worker's hold on one trial: only who has it appends. Every method raises LeaseLost if it is gone."""

    def __init__(self, folder: Folder, name: TrialName) -> None:
        self.folder = folder
        self.name = name
        self.path = folder.locate(name)

    def read(self) -> Trial:
        """The trial to train. Raises BrokenFile."""
        try:
            return self.folder.read(self.name)
        except FileNotFoundError:
            raise LeaseLost(self.path) from None

    def append(self, record: Record, *, sync: bool = False) -> None:
        """Add a line to the story."""
        append_line(self.path, record, sync=sync)

    def beat(self) -> None:
        """Show a sign of life: the file's time changes."""
        try:
            os.utime(self.path, follow_symlinks=False)
        except FileNotFoundError:
            raise LeaseLost(self.path) from None

    def finish(self, record: Record) -> None:
        """Say the last word (a result or an error), see it on stable storage, and only then hand it in."""
        self.append(record, sync=True)
        self.hand_in()

    def hand_in(self) -> None:
        """Give the file to the master, as it is."""
        done = self.name.to("done")
        if _rename(self.path, self.folder.locate(done)):
            return
        # Gone, but perhaps by our own rename, and the master was quicker to collect than the reply to come.
        if not os.path.lexists(self.folder.locate(self.name.to("seen"))):
            raise LeaseLost(self.path)

    def give_back(self, reason: str) -> None:
        """Offer the trial to others at once, under the next attempt's name: this one can't be claimed again."""
        self.append({"given_back": reason, "time": utc_now()})
        if not _rename(self.path, self.folder.locate(self.name.next_attempt())):
            raise LeaseLost(self.path)


def _list(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _listing(path: Path, states: tuple[str, ...]) -> list[TrialName]:
    names = (TrialName.parse(text) for text in _list(path))
    return [name for name in names if name is not None and name.state in states]


def read_object(path: Path) -> Record:
    """One JSON object that fills a file. Raises BrokenFile, or FileNotFoundError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BrokenFile(f"{path}: too large to be true")
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{path}: not JSON ({error}); move it away and start the master again") from None
    if not isinstance(value, dict):
        raise BrokenFile(f"{path}: not a JSON object; move it away and start the master again")
    return value
