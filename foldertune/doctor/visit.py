"""One visit of the doctor to a folder: the values that the checks share, and their findings."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foldertune.protocol import (
    BrokenFile,
    Folder,
    TrialName,
    describe_owner,
    has_died,
    new_owner,
    read_records,
    to_line,
    write_whole,
)


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    mark: str  # ok, note (the folder can still be used) or bad
    what: str
    remedy: str = ""


def lacking(mark: str, lack: str, more: str = "") -> Finding:
    """What `lack_of_rights` or `lack_of_access` says, as a finding with its remedy."""
    what, _, remedy = lack.rpartition("; ask ")
    return Finding(mark, f"{what}{more}", f"ask {remedy}")


@dataclass
class Visit:
    """The folder, the doctor's own folder inside it, and what earlier checks have measured."""

    logs: Folder
    mounts: Sequence[Path]  # the doctor's own folder; then the same folder through --second-mount, if given
    wait: float = 0.0  # seconds from the start in which answering machines may still appear
    started: float = field(default_factory=time.monotonic)
    delay: float = 0.0  # the longest time until a change was seen and answered, in seconds
    far: bool = False  # has another machine or another mount answered?

    def rooms(self, name: str) -> list[Folder]:
        """A new folder for the trials of one check, once for each mount."""
        (self.mounts[0] / name / "seen").mkdir(parents=True)
        return [Folder(mount / name) for mount in self.mounts]

    def server_time(self) -> float:
        """The time now, in seconds since 1970, by the clock that stamps files."""
        path = self.mounts[0] / "clock"
        path.touch()
        os.utime(path)
        return path.stat().st_mtime

    def names(self) -> list[TrialName]:
        """The search's pending, taken and done trials; empty if no search has begun here."""
        try:
            return sorted(self.logs.names(), key=str)
        except FileNotFoundError:
            return []


def in_words(seconds: float) -> str:
    """A duration as `7 µs`, `2.1 ms`, `3.4 s` or `12 min`."""
    if seconds < 0.001:
        return f"{1e6 * seconds:.0f} µs"
    if seconds < 1:
        return f"{1000 * seconds:.1f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 180 else f"{seconds / 60:,.0f} min"


@contextlib.contextmanager
def scratch_in(logs: Path, suffix: str = "") -> Iterator[Path]:
    """A folder for the doctor's own trials, removed at the end. Other programs ignore its name."""
    owner = new_owner()
    scratch = logs / f".doctor-{owner}{suffix}"
    try:
        scratch.mkdir()
        write_whole(scratch / "who", to_line(describe_owner(owner)))
        yield scratch
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        shutil.rmtree(scratch, ignore_errors=True)  # a second Ctrl-C must not leave it here
        for number, handler in before.items():
            signal.signal(number, handler)


def is_left_over(path: Path) -> bool:
    """Is this the folder of a doctor that has certainly died?"""
    try:
        return has_died(read_records(str(path / "who"))[0])
    except (OSError, BrokenFile, IndexError):
        return False
