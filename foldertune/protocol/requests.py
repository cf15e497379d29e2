"""What a person asks of everybody who works in the folder: one file each, of whatever kind, also by `touch` and `rm`.

    logs/pause      no worker claims a trial
    logs/drain      workers end after the trial in hand
    logs/stop       workers save their trials, give them back and end now; the master ends, too
    logs/end        the master ends the study: it withdraws what is pending, and what runs is finished and counted

    {"request": "pause", "by": "anna", "host": "gpu07", "time": "2026-11-26T12:30:07.512Z"}

A request changes no trial's state. It is obeyed as long as it stands there; `Folder.halt` and `Folder.is_ended` say
whether it does. Of pause, drain and stop the strongest counts. The end of a study removes them: who
comes later, to extend it, is not to obey them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from foldertune.errors import UserError
from foldertune.protocol.files import BrokenFile, read_bytes, status_of, write_whole
from foldertune.protocol.hosts import host_name
from foldertune.protocol.names import DRAIN, END, HALTS, PAUSE, STOP
from foldertune.protocol.proposal import Record
from foldertune.protocol.rights import user_name
from foldertune.protocol.trial import parse_time, to_line, utc_now
from foldertune.text import moment, printable

REQUESTS = (*HALTS, END)
LARGEST = 2**14  # bytes of a request that are read
DROP = "drop"  # of single trials: see drops.py
DONE = {DROP: "dropped", PAUSE: "paused", DRAIN: "drained", STOP: "stopped", END: "ended"}


@dataclass(frozen=True)
class Request:
    """A person's request, and as far as is known who made it and when (seconds since 1970)."""

    kind: str
    by: str = ""
    since: float | None = None
    because: str = ""

    def to_record(self) -> Record:
        """As its file has it."""
        time = {} if self.since is None else {"time": f"{datetime.fromtimestamp(self.since, UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return {"request": self.kind, "by": self.by, **time}

    def __str__(self) -> str:
        """For people: `paused by anna on gpu07 since 12:30`."""
        by = f" by {printable(self.by)}" if self.by else ""
        when = f" {'since' if self.kind in HALTS else 'at'} {moment(self.since)}" if self.since is not None else ""
        return f"{DONE[self.kind]}{by}{when}{f': {printable(self.because)}' if self.because else ''}"


def read_request(folder: Path, kind: str, name: str = "") -> Request:
    """The request of this kind, in the file of this name. If that does not say who made it, its owner did."""
    path, record, by, since = folder / (name or kind), Record(), "", None
    with contextlib.suppress(OSError):
        status = status_of(path)
        by, since = user_name(status.st_uid), status.st_mtime
    with contextlib.suppress(OSError, BrokenFile, ValueError, RecursionError):
        record = json.loads(read_bytes(str(path), LARGEST))
    if not isinstance(record, dict):
        return Request(kind, by, since)
    if isinstance(told := record.get("by"), str):
        host, since = record.get("host"), parse_time(record.get("time")) or since
        by = f"{told} on {host}" if isinstance(host, str) else told
    because = record.get("because")
    return Request(kind, by, since, because if isinstance(because, str) else "")


def signature() -> Record:
    """Who asks, and when."""
    return {"by": user_name(os.geteuid()), "host": host_name(), "time": utc_now()}


def make_request(folder: Path, kind: str) -> None:
    """Ask for it. Raises UserError if something else stands there, which may be a request as well; OSError."""
    try:
        write_whole(folder / kind, to_line({"request": kind, **signature()}))
    except IsADirectoryError:
        raise UserError(f"{folder / kind}: is a directory, which asks for it already") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        (folder / kind).touch()  # an empty file asks for it, too, and takes no room


def remove_request(folder: Path, kind: str) -> None:
    """Ask for it no more. Raises UserError if the file can't be removed."""
    path = folder / kind
    try:
        os.rmdir(path) if path.is_dir() and not path.is_symlink() else os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{path}: can't be removed ({error.strerror}); move it away") from None
