"""What each worker says of itself: one small file in `workers/`, so that people see who is where.

    logs/workers/gpu07-4711-k3f9.json   {"worker": …, "host": …, "launcher": "slurm 4711_3", "device": "cuda:0", …}

It is for people. No decision about a trial rests on it: claims, leases and results stand in the trials' files. The
worker replaces it whole: when it starts, about once a minute, and when it ends in good order (`"ended"` says why). So
it is a sign of life, too. Of too many such files the master removes the oldest; a worker that lives makes its own
again.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import random

from foldertune.protocol.files import BrokenFile, list_if_there, opened, read_bytes, remove, status_of, write_whole
from foldertune.protocol.folder import Folder, signature_of
from foldertune.protocol.names import worker_file, worker_of
from foldertune.protocol.proposal import Record
from foldertune.protocol.rights import make_directory
from foldertune.protocol.trial import to_line

MAX_RECORD = 2**14  # bytes of such a file that are read
MOST_RECORDS = 2000  # files that are kept
SIGN_EVERY = 60.0  # seconds between two signs of life, about
SILENT = 4 * SIGN_EVERY  # seconds without a sign of life after which a worker counts as gone
SAMPLE = 20  # files from which the share of the living is estimated


class WorkerRecords:
    """The files of the workers. Every method raises OSError while the filesystem is in trouble."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def write(self, record: Record) -> None:
        """Write or replace a worker's own file. Raises FileNotFoundError in a folder that no master has prepared."""
        path = self._locate(record["worker"])
        try:
            with opened(self.folder.workers) as inside:
                return write_whole(path, to_line(record), inside=inside)
        except FileNotFoundError:
            self.folder.check_presence()
        make_directory(self.folder.workers)  # an earlier version has prepared the folder
        with opened(self.folder.workers) as inside:
            write_whole(path, to_line(record), inside=inside)

    def owners(self) -> list[str]:
        """The tokens of the workers that have such a file."""
        return [owner for text in list_if_there(self.folder.workers) if (owner := worker_of(text)) is not None]

    def count_living(self) -> int:
        """About how many workers have lately given a sign of life, by a sample of their files.

        All times are those of the file server: the directory's is that of the latest sign.
        """
        owners = self.owners()
        sample, living = random.sample(owners, min(SAMPLE, len(owners))), 0
        with opened(self.folder.workers) as inside:
            latest = os.fstat(inside).st_mtime
            for path in map(self._locate, sample):
                with contextlib.suppress(FileNotFoundError):
                    living += status_of(path, inside).st_mtime > latest - SILENT
        return round(len(owners) * living / len(sample)) if sample else 0

    def signature(self, owner: str) -> tuple[int, ...]:
        """A value that changes with every sign of life. Raises OSError if the file is gone."""
        with opened(self.folder.workers) as inside:
            return signature_of(self._locate(owner), inside)

    def read(self, owner: str) -> Record:
        """What that worker says of itself; empty if it can't be read."""
        with (
            contextlib.suppress(OSError, BrokenFile, ValueError, RecursionError),
            opened(self.folder.workers) as inside,
        ):
            record = json.loads(read_bytes(self._locate(owner), MAX_RECORD, inside=inside))
            return record if isinstance(record, dict) else {}
        return {}

    def limit(self, most: int = MOST_RECORDS) -> int:
        """Remove the oldest files beyond so many. Returns how many that were."""
        owners = self.owners()
        if len(owners) <= most:
            return 0
        ages: list[tuple[float, str]] = []
        with opened(self.folder.workers) as inside:
            for path in map(self._locate, owners):
                with contextlib.suppress(FileNotFoundError):  # all times are those of the file server
                    ages.append((status_of(path, inside).st_mtime, path))
            old = heapq.nsmallest(len(owners) - most, ages)
            for _, path in old:
                remove(path, inside)
        return len(old)

    def _locate(self, owner: str) -> str:
        return os.path.join(self.folder.workers, worker_file(owner))
