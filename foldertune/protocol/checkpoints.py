"""Checkpoints: what an attempt had learnt, in a file of its own, for a later attempt to continue from.

    logs/checkpoints/trial-00007-1.checkpoint

The first line is JSON: the settings, the study (its name, objective and metric), and the length and checksum of the
bytes that follow. What another study has left here, perhaps with other training code, is not resumed, though its
settings be equal. A checkpoint of an earlier version does not say whose it is; it is believed, so that a search goes on
after an update. A checkpoint is never a result. If all are lost, training starts again from the beginning.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from foldertune.protocol.files import BrokenFile, opened, read_bytes, remove, status_of, write_whole
from foldertune.protocol.names import TrialName, written_name
from foldertune.protocol.proposal import Record
from foldertune.protocol.trial import to_line

MAX_CHECKPOINT = 2 * 2**30  # bytes
MAX_LOOK_BACK = 100  # this many attempts are searched for a checkpoint

_NAME = re.compile(r"trial-(\d{5,12})-\d{1,9}\.checkpoint", re.ASCII)


def checkpoint_path(directory: Path, number: int, attempt: int) -> str:
    """The path of an attempt's checkpoint."""
    return f"{directory}/trial-{number:05d}-{attempt}.checkpoint"


def save_checkpoint(path: str, origin: Record, data: bytes, inside: int | None = None) -> None:
    """Write a checkpoint, whole and on stable storage. `origin` holds the settings and the study.

    Raises OSError, also if it is so large that it would never be read.
    """
    head = to_line({**origin, **_seal(data)})
    if (size := len(head) + len(data)) > MAX_CHECKPOINT:
        raise OSError(errno.EFBIG, f"{size:,} bytes, more than the {MAX_CHECKPOINT:,} that a checkpoint may have", path)
    write_whole(path, head + data, sync=True, inside=inside)


def load_checkpoints(
    directory: Path, name: TrialName, origin: Record, differing: Callable[[Record], Record] = dict
) -> Iterator[tuple[str, bytes]]:
    """Path and contents of the checkpoints of this attempt and earlier ones, the latest first.

    Yields only those that are whole and have this origin. They are opened by name: a listing of the directory may be
    out of date on a network.

    Args:
        differing: leaves out those settings that make no difference, as in `origin`. A writer that had an earlier
            study may have known fewer of them.
    """
    for attempt in range(name.attempt, max(name.attempt - MAX_LOOK_BACK, 0), -1):
        path = checkpoint_path(directory, name.number, attempt)
        with contextlib.suppress(OSError, BrokenFile, ValueError, RecursionError):
            with opened(directory) as inside:
                head, _, data = read_bytes(path, MAX_CHECKPOINT, inside=inside).partition(b"\n")
            seal = _seal(data)
            if _told(head, differing) in (
                to_line({**origin, **seal}),
                to_line({"settings": origin["settings"], **seal}),
            ):
                yield path, data


def remove_checkpoints(directory: Path, numbers: Container[int]) -> None:
    """Remove the checkpoints of these trials, whole or half written: the trials are counted and need none."""
    with contextlib.suppress(FileNotFoundError), opened(directory) as inside:
        for text in os.listdir(inside):
            match = _NAME.fullmatch(written_name(text) or text)
            if match and int(match[1]) in numbers:
                remove(f"{directory}/{text}", inside)


def checkpoint_sizes(directory: Path) -> dict[int, int]:
    """Bytes of the checkpoints of each trial, by its number."""
    sizes: dict[int, int] = {}
    with contextlib.suppress(FileNotFoundError), opened(directory) as inside:
        for text in os.listdir(inside):
            if match := _NAME.fullmatch(text):
                with contextlib.suppress(FileNotFoundError):
                    size = status_of(f"{directory}/{text}", inside).st_size
                    sizes[int(match[1])] = sizes.get(int(match[1]), 0) + size
    return sizes


def _told(head: bytes, differing: Callable[[Record], Record]) -> bytes | None:
    record = json.loads(head)
    if not isinstance(record, dict) or not isinstance(settings := record.get("settings"), dict):
        return None
    return to_line({**record, "settings": differing(settings)})


def _seal(data: bytes) -> Record:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
