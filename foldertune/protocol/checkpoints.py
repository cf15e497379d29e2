"""Checkpoints: what an attempt had learnt, in a file of its own, for a later attempt to continue from.

    logs/checkpoints/trial-00007-1.checkpoint

The first line is JSON: the settings, and the length and checksum of the bytes that follow. A checkpoint is never a
result. If all are lost, training starts again from the beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Container, Iterator
from pathlib import Path

from foldertune.protocol.files import BrokenFile, list_if_there, read_bytes, remove, write_whole
from foldertune.protocol.names import TrialName
from foldertune.protocol.trial import Record, to_line

MAX_CHECKPOINT = 2 * 2**30  # bytes
MAX_LOOK_BACK = 100  # this many attempts are searched for a checkpoint

_PATTERN = re.compile(r"\.?trial-(\d{5,12})-\d{1,9}\.checkpoint", re.ASCII)  # also of half-written ones


def checkpoint_path(directory: Path, number: int, attempt: int) -> str:
    """The path of an attempt's checkpoint."""
    return f"{directory}/trial-{number:05d}-{attempt}.checkpoint"


def save_checkpoint(path: str, settings: Record, data: bytes) -> None:
    """Write a checkpoint, whole and on stable storage."""
    write_whole(path, _head(settings, data) + data, sync=True)


def load_checkpoints(directory: Path, name: TrialName, settings: Record) -> Iterator[tuple[str, bytes]]:
    """Path and contents of the checkpoints of this attempt and earlier ones, the latest first.

    Yields only those that are whole and were made with the same settings. They are opened by name: a listing of the
    directory may be out of date on a network.
    """
    for attempt in range(name.attempt, max(name.attempt - MAX_LOOK_BACK, 0), -1):
        path = checkpoint_path(directory, name.number, attempt)
        with contextlib.suppress(OSError, BrokenFile):
            head, _, data = read_bytes(path, MAX_CHECKPOINT).partition(b"\n")
            if head + b"\n" == _head(settings, data):
                yield path, data


def remove_checkpoints(directory: Path, numbers: Container[int]) -> None:
    """Remove the checkpoints of these trials, whole or half written: the trials are counted and need none."""
    for text in list_if_there(directory):
        match = _PATTERN.match(text)
        if match and int(match[1]) in numbers:
            remove(f"{directory}/{text}")


def _head(settings: Record, data: bytes) -> bytes:
    return to_line({"settings": settings, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
