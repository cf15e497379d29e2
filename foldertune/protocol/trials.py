"""A trial is one file: its name is its state, its lines are its story.

    logs/trial-00007-1.jsonl                         pending   written whole by the master
    logs/trial-00007-1.jsonl.gpu07-4711-k3f9.taken   running   claimed by one worker (host-pid-random)
    logs/trial-00007-1.jsonl.done                    finished  result inside
    logs/seen/trial-00007-1.jsonl.seen               collected by the master, in the results table
    logs/seen/trial-00007-1.jsonl.lost               an attempt that ended without a result; -2 is its next
    logs/checkpoints/trial-00007-1.checkpoint        what attempt 1 had learnt; a later attempt goes on from it
    logs/aside/…                                     what stood in the way of a name, moved, never deleted

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
import hashlib
import itertools
import json
import math
import os
import random
import re
import socket
import stat
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from foldertune.errors import UserError

MAX_BYTES = 16 * 2**20  # a trial's file is some kilobytes; one beyond this is not a trial
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no way out of the folder by a symlink, no waiting at a FIFO
MAX_CHECKPOINT = 2 * 2**30
MAX_LOOK_BACK = 100  # attempts whose checkpoints are looked for
MAX_NAME = 40  # characters of a host name that go into a file name

_CHECKPOINT = re.compile(r"\.?trial-(\d{5,12})-\d{1,9}\.checkpoint", re.ASCII)

Record = dict[str, Any]


class LeaseLost(Exception):
    """The trial's file no longer has the name this worker gave it: somebody else decided its fate."""


class BrokenFile(UserError):
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
    letters = "".join(random.SystemRandom().choices("abcdefghijkmnpqrstuvwxyz23456789", k=4))
    return f"{own_host()}-{os.getpid()}-{letters}"


def own_host() -> str:
    """This machine's name as tokens have it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", host_name())[:MAX_NAME] or "host"


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
    timeout: float | None = None  # seconds an attempt may take
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
        trial = cls(name, first["settings"], _seconds(first.get("lease")), _seconds(first.get("timeout")))
        if isinstance(first.get("lost"), list):
            trial.lost = [str(reason) for reason in first["lost"]]
        for record in records[1:]:
            if "claimed" in record:  # what an earlier owner wrote, who gave the trial back, does not count
                trial.claim, trial.epochs, trial.result, trial.error, trial.finished = record, [], None, None, None
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
        if name.state == "seen" and trial.result is None and trial.error is None:
            raise BrokenFile(f"{path}: ends without a result")
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


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else None


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


def read_records(path: str, *, epochs: bool = True, limit: int | None = None) -> list[Record]:
    """The lines of a file. A line without its newline does not exist: its writer died in the middle of it.

    Without `epochs` the lines that begin as those of an epoch are passed over.

    Raises BrokenFile if a line is no JSON object, and OSError if there is no such file.
    """
    records = []
    for number, line in enumerate(read_bytes(path, limit or MAX_BYTES).split(b"\n")[:-1], start=1):
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
    return int(text) if len(text) <= 20 else float(text)  # what no float can hold is infinite, and no value


_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_int=_whole_number)  # json.loads would make it anew


def read_bytes(path: str, limit: int) -> bytes:
    """What is in a regular file of at most `limit` bytes. Raises BrokenFile if it is another thing, else OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise BrokenFile(f"{path}: not a regular file") from None
        # Our rights in the folder show whether it is this file alone that we may not read.
        if error.errno == errno.EACCES and os.access(os.path.dirname(path), os.R_OK | os.W_OK | os.X_OK):
            raise BrokenFile(f"{path}: can't be read ({error.strerror})") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenFile(f"{path}: not a regular file")
        if status.st_size > limit:
            raise BrokenFile(f"{path}: {status.st_size:,} bytes, more than the {limit:,} that are sensible here")
        parts, left = [], limit
        while left > 0 and (part := os.read(descriptor, min(left, 2**20))):  # it may grow as we read
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def append_line(path: str, record: Record, *, sync: bool = False) -> None:
    """Append one line by one write, to a file that must be there; `sync`: return when it is on stable storage.

    Raises OSError if the line could not be written whole. What is there of it does no harm: readers do not count a
    line without its newline, and the next append begins by cutting it off.
    """
    line = to_line(record)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | SAFE)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file any more", path)
        size = status.st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, read_bytes(path, MAX_BYTES).rfind(b"\n") + 1)
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: str) -> None:
    """Return when what is in that file is on stable storage."""
    descriptor = os.open(path, os.O_RDONLY | SAFE)
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
    """The shared folder of one study.

    Every method raises OSError while the filesystem is in trouble, also when the whole folder is away (renamed,
    unmounted): what was to be done can be done again later.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.seen = self.path / "seen"
        self.checkpoints = self.path / "checkpoints"
        self.aside = self.path / "aside"
        self.study = self.path / "study.json"
        self.study_done = self.path / "study.json.done"
        self.results = self.path / "results.csv"

    def locate(self, name: TrialName) -> str:
        """Where the file of that name is."""
        parent = self.seen if name.state in ("seen", "lost") else self.path
        return f"{parent}/{name}"

    def checkpoint(self, name: TrialName) -> str:
        """Where that attempt keeps its checkpoint."""
        return f"{self.checkpoints}/trial-{name.number:05d}-{name.attempt}.checkpoint"

    def names(self) -> list[TrialName]:
        """The work in hand: pending, taken and done. One listing: a name not in it may still be there."""
        names = map(TrialName.parse, self._list())
        return [name for name in names if name is not None and name.state in ("pending", "taken", "done")]

    def settled(self) -> list[TrialName]:
        """What the master has dealt with: seen and lost."""
        names = map(TrialName.parse, _list_if_there(self.seen))
        return [name for name in names if name is not None and name.state in ("seen", "lost")]

    def read(self, name: TrialName, *, epochs: bool = True) -> Trial:
        """The trial in that file, or all but its `epochs`. Raises BrokenFile, or OSError if the file is gone."""
        path = self.locate(name)
        return Trial.from_records(name, read_records(path, epochs=epochs), path)

    def has(self, name: TrialName) -> bool:
        """Is there anything of that name?"""
        return os.path.lexists(self.locate(name))

    def signature(self, name: TrialName) -> tuple[int, ...]:
        """What changes when the owner of that file shows a sign of life. Raises OSError if the file is gone."""
        status = os.lstat(self.locate(name))
        return status.st_ino, status.st_size, status.st_mtime_ns

    def check_presence(self) -> None:
        """Raise OSError if the folder is away: then a name that is not to be found says nothing."""
        os.stat(self.seen)

    def check_parts(self) -> None:
        """Raise BrokenFile if a directory of the folder leads out of it, or is none."""
        for part in (self.seen, self.checkpoints, self.aside):
            if part.is_symlink() or (part.exists() and not part.is_dir()):
                raise BrokenFile(f"{part}: is not a directory of this folder; move it away")

    def _list(self) -> list[str]:
        texts = os.listdir(self.path)
        if "seen" not in texts:  # an empty mount point, or a folder that no master has prepared yet
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.seen))
        return texts

    def _move(self, name: TrialName, target: TrialName) -> bool:
        """Change a trial's state. True if it is done, False if the name was gone. Raises OSError."""
        if _rename(self.locate(name), self.locate(target)):
            return True
        self.check_presence()
        return False

    # ---- the master

    def prepare(self) -> None:
        """Make the folder one that workers can use. Raises BrokenFile if a part of it leads elsewhere."""
        self.check_parts()
        for directory in (self.seen, self.checkpoints):
            directory.mkdir(parents=True, exist_ok=True)

    def publish(
        self,
        name: TrialName,
        settings: Record,
        *,
        lease: float,
        timeout: float | None = None,
        lost: Sequence[str] = (),
    ) -> None:
        """Offer a trial to the workers. Not synced: settings lost with the power are written again."""
        first: Record = {"settings": settings, "lease": lease}
        if timeout is not None:
            first["timeout"] = timeout
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
        if self.has(target):  # put there by hand: the only one who writes there is the master
            self.set_aside(self.locate(name))
            return None
        return target if self._move(name, target) else None

    def set_aside(self, path: str) -> None:
        """Move out of the way, whatever it is, what stands where it can't be used. Nothing is overwritten."""
        self.aside.mkdir(exist_ok=True)
        places = (self.aside / f"{os.path.basename(path)}.{number}" for number in itertools.count(1))
        _rename(path, str(next(place for place in places if not os.path.lexists(place))))

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

    def write_results(self, table: str) -> None:
        """Replace results.csv."""
        data = table.encode(errors="backslashreplace")
        try:
            write_whole(self.results, data)
        except IsADirectoryError:
            self.set_aside(str(self.results))
            write_whole(self.results, data)

    def complete_study(self) -> None:
        """Tell the workers that nothing more will come."""
        _rename(str(self.study), str(self.study_done))

    def is_complete(self) -> bool:
        """Has the study ended? Waiting workers then go home."""
        return self.study_done.exists() and not self.study.exists()

    def remove_leftovers(self) -> None:
        """Remove temporary files of masters that died. Only for the one master: nobody else writes any here."""
        for parent in (self.path, self.seen):
            for leftover in parent.glob(".*.tmp"):
                _remove(str(leftover))

    def remove_checkpoints(self, numbers: Container[int]) -> None:
        """Remove what was kept, whole or half written, for trials of these numbers: they are counted."""
        for text in _list_if_there(self.checkpoints):
            match = _CHECKPOINT.match(text)
            if match and int(match[1]) in numbers:
                _remove(f"{self.checkpoints}/{text}")

    # ---- the worker

    def candidates(self, owner: str) -> Iterator[TrialName]:
        """One worker's share of the pending trials, drawn at random: workers seldom reach for the same one.

        First what bears its own token already: a claim whose success it could not see while the folder was in trouble.
        """
        texts = self._list()
        own = [text for text in texts if text.endswith(f".{owner}.taken")]
        pending = [text for text in texts if text.endswith(".jsonl")]
        share = math.ceil(len(pending) / (1 + sum(text.endswith(".taken") for text in texts)))
        names = map(TrialName.parse, own + random.sample(pending, share))  # parsed as they are asked for
        return (name for name in names if name is not None)

    def claim(self, owner: str, candidates: Iterator[TrialName]) -> Claim | None:
        """Take the first of the candidates that nobody else was faster to take."""
        for name in candidates:
            taken = name.to("taken", owner)
            if name == taken or self._move(name, taken):
                return Claim(self, taken)
        return None


class Claim:
    """One worker's hold on one trial: only who has it appends. Every method raises LeaseLost if it is gone."""

    def __init__(self, folder: Folder, name: TrialName) -> None:
        self.folder = folder
        self.name = name
        self.path = folder.locate(name)
        self._said_last_word = False

    def read(self) -> Trial:
        """The trial to train. Raises BrokenFile."""
        try:
            return self.folder.read(self.name)
        except FileNotFoundError:
            self._gone()

    def append(self, record: Record, *, sync: bool = False) -> None:
        """Add a line to the story."""
        try:
            append_line(self.path, record, sync=sync)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP, errno.EISDIR):
                raise
            self._gone()

    def beat(self) -> None:
        """Show a sign of life: the file's time changes."""
        try:
            os.utime(self.path, follow_symlinks=False)
        except FileNotFoundError:
            self._gone()

    def finish(self, record: Record) -> None:
        """Say the last word (a result or an error), see it on stable storage, and only then hand it in.

        May be called again after an OSError. The word is said once: the file may be the master's by then.
        """
        if not self._said_last_word:
            self.append(record, sync=True)
            self._said_last_word = True
        self.hand_in()

    def hand_in(self) -> None:
        """Give the file to the master, as it is."""
        done = self.name.to("done")
        if self.folder._move(self.name, done):
            return
        # Gone, but perhaps by our own rename, and the master was quicker to collect than the reply to come.
        with contextlib.suppress(FileNotFoundError, BrokenFile):
            if self.folder.read(self.name.to("seen")).claim.get("claimed") == self.name.owner:
                return
        raise LeaseLost(self.path)

    def give_back(self, reason: str) -> None:
        """Offer the trial to others at once, under the next attempt's name: this one can't be claimed again."""
        with contextlib.suppress(OSError):  # the reason is for people; a full disk must not keep the trial here
            self.append({"given_back": reason, "time": utc_now()})
        if not self.folder._move(self.name, self.name.next_attempt()):
            raise LeaseLost(self.path)

    def save_checkpoint(self, settings: Record, data: bytes) -> None:
        """Keep what this attempt has learnt, whole and on stable storage, for a later attempt."""
        try:
            os.lstat(self.path)
        except FileNotFoundError:
            self._gone()
        head = {"settings": settings, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_whole(self.folder.checkpoint(self.name), to_line(head) + data, sync=True)

    def load_checkpoints(self, settings: Record) -> Iterator[tuple[str, bytes]]:
        """Path and contents of what this trial's attempts have kept, the latest first, then earlier ones.

        Yields only what is whole and was made with the same settings. Asked for by name, not by a listing, which
        another machine's cache may have outlived.
        """
        for attempt in range(self.name.attempt, max(self.name.attempt - MAX_LOOK_BACK, 0), -1):
            path = self.folder.checkpoint(replace(self.name, attempt=attempt))
            with contextlib.suppress(OSError, BrokenFile):
                head, _, data = read_bytes(path, MAX_CHECKPOINT).partition(b"\n")
                expected = {"settings": settings, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                if head + b"\n" == to_line(expected):
                    yield path, data

    def _gone(self) -> NoReturn:
        """What follows from our name not being there: the lease is lost, unless the whole folder is away."""
        self.folder.check_presence()
        raise LeaseLost(self.path)


def _list_if_there(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_object(path: Path) -> Record:
    """One JSON object that fills a file. Raises BrokenFile, or OSError."""
    remedy = "move it away and start the master again"
    try:
        value = json.loads(read_bytes(str(path), MAX_BYTES))
    except BrokenFile as error:
        raise BrokenFile(f"{error}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(value, dict):
        raise BrokenFile(f"{path}: not a JSON object; {remedy}")
    return value
