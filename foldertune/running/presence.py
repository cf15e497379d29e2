"""Keeps the worker's record in the folder up to date, from a thread of its own: who it is, where, and what ended it."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from foldertune.protocol import SIGN_EVERY, Folder, Record, WorkerRecords, describe_owner
from foldertune.running.worker import Worker
from foldertune.text import clipped

UNTIL_THERE = 5.0  # seconds between two tries in a folder that no master has prepared yet
LONGEST_WHY = 1000  # characters of what ended a worker
LONGEST_END = 2.0  # seconds that the last write may take: the folder may be in trouble


class Presence(threading.Thread):
    """While this is open, the folder tells who the worker is, and lately was.

    It never delays the worker: the thread asks the slow tools, such as those of a GPU's driver, and waits for the
    file server. No trial is the worse if nothing of it can be written.

    Args:
        about: what does not change: launcher, device, version of Python.
        look: what may change, such as the memory in use. It may take seconds.
    """

    def __init__(self, worker: Worker, about: Record, look: Callable[[], Record]) -> None:
        super().__init__(name="presence", daemon=True)
        who = describe_owner(worker.owner)
        self._record: Record = {"worker": who.pop("claimed"), "started": who.pop("time"), **who, **about}
        self._worker, self._look, self._records = worker, look, WorkerRecords(Folder(worker.folder.path))
        self._over, self._lock = threading.Event(), threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        why = self._worker.why_ended if error is None else str(error) or type(error).__name__
        self._over.set()
        last = threading.Thread(target=self._write, args=({"ended": clipped(why, LONGEST_WHY)},), daemon=True)
        last.start()
        last.join(LONGEST_END)

    def run(self) -> None:
        """Write the record at once, again when the slow tools have answered, and then about once a minute."""
        while not self._write({}) and not self._over.wait(UNTIL_THERE):
            pass
        pause = SIGN_EVERY / 6  # by then, the trainer has loaded what it needs
        while not self._over.is_set():
            waits = round(max(time.monotonic() - since, 0)) if (since := self._worker.waits_since) < math.inf else None
            self._write({**self._look(), "waits": waits})
            self._over.wait(pause * random.uniform(0.75, 1.25))  # not all workers at the same moment
            pause = SIGN_EVERY

    def _write(self, news: Record) -> bool:
        with self._lock:
            if "ended" in self._record:
                return True
            self._record |= news
            with contextlib.suppress(OSError):
                self._records.write(self._record)
                return True
        return False
