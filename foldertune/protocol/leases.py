"""Which workers are alive: workers send heartbeats, and the master watches for them.

A worker touches its trial's file every few seconds, from a thread of its own, so heartbeats continue whatever the
worker does, and stop with its process. The master never reads the times in the files: it compares
each file with what it saw before, and measures the silence with its own monotonic clock. So no two machines' clocks
are ever compared (Gray and Cheriton's leases, SOSP 1989, with the clock on one side only).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from foldertune.protocol.folder import Folder, LeaseLost, signature_of
from foldertune.protocol.masters import Masters
from foldertune.protocol.names import is_here, is_same_process
from foldertune.protocol.owners import is_own, owner_has_died

DEFAULT_LEASE = 180.0  # seconds; NFS clients may cache a file's attributes for 60
SHORTEST_LEASE = 1.0  # seconds; a shorter one would expire while a worker waits for its turn at the processor
SIGNS_PER_LEASE = 12
LOOK_EVERY = 4.0  # seconds between two looks for a person's request to stop, which is to be obeyed within ten
QUARTER = 4  # a folder that has not answered for this part of a lease was away
LONGEST_DOUBT = 5.0  # seconds: for so long a file that lacks its result is opened again; a cache may be old


@dataclass
class _Watched:
    signature: tuple[int, ...]
    since: float  # of this clock, when the first look that showed the signature was answered


class Leases:
    """The master's view of the claims, or of other files: how long has each been silent?

    Silence is the time between two answers of the folder: from the one that first showed a signature until the
    question whose answer still shows it. If the folder has not answered for a while (its server was away, a call
    hung, we were stopped ourselves), nobody could be heard, and all silences begin anew. After trouble everybody has a
    whole lease to touch a file again.

    Args:
        seconds: the lease, the silence after which a claim has expired.
        clock: the observer's own monotonic clock, in seconds.
    """

    def __init__(self, seconds: float = DEFAULT_LEASE, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._deaf = max(seconds / QUARTER, SHORTEST_LEASE / 2)  # seconds without an answer that prove nothing
        self._clock = clock
        self._watched: dict[Hashable, _Watched] = {}
        self._asked = self._answered = clock()

    def look(self, current: AbstractSet[Hashable]) -> None:
        """Begin a round of questions. Forget names that are not in `current`."""
        self._asked = self._clock()
        self._watched = {name: seen for name, seen in self._watched.items() if name in current}

    def is_new(self, name: Hashable) -> bool:
        """Is this the first time this name is asked about?"""
        return name not in self._watched

    def forget(self, name: Hashable) -> None:
        """The folder could not tell about this name: its silence begins anew."""
        self._watched.pop(name, None)

    def silence(self, name: Hashable, signature: tuple[int, ...]) -> float:
        """For how many seconds has the signature of this name not changed, as far as we have heard?

        Ask the folder for the signature between `look`, or the last call of this, and this call.
        """
        asked, now = self._asked, self._clock()
        if now - self._answered > self._deaf:
            for watched in self._watched.values():
                watched.since = now
        self._asked = self._answered = now
        watched = self._watched.setdefault(name, _Watched(signature, now))
        if watched.signature != signature:
            watched.signature, watched.since = signature, now
        return max(asked - watched.since, 0.0)


class Leftovers:
    """Removes temporary files that writers left behind, but none that a writer may still rename.

    A temporary name says which process writes it. The file is removed when that process is dead on this host, or is
    this process itself (the one master asks between its own writes), or is a master that was followed (its rename
    would come too late), or when it is on another host and the file has not changed for a whole lease while we watched.
    """

    def __init__(self, folder: Folder, lease: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._interval, self._clock = folder, lease / 8, clock
        self._watch = Leases(lease, clock)
        self._next_look = 0.0
        self._in_seen: dict[str, str] = {}  # of earlier masters: nobody else writes there

    def remove(self) -> None:
        """Look at every temporary file, and remove those with a writer that is certainly gone."""
        files = self._folder.temporary_files(self._folder.path)
        self._in_seen = self._folder.temporary_files(self._folder.seen)
        self._judge(files | self._in_seen | self._of_workers())

    def look(self) -> None:
        """Do so again if it is time, a few times per lease. This does not list `seen/`, which may be large."""
        if self._clock() >= self._next_look:
            files = self._folder.temporary_files(self._folder.path)
            self._judge(files | self._in_seen | self._of_workers())

    def _of_workers(self) -> dict[str, str]:
        with contextlib.suppress(NotADirectoryError):  # a link stands there: what it leads to is not ours
            return self._folder.temporary_files(self._folder.workers)
        return {}

    def _judge(self, files: dict[str, str]) -> None:
        self._next_look = self._clock() + self._interval
        self._watch.look(files.keys())
        for path, writer in files.items():
            try:
                if self._is_gone(writer) or self._is_silent(path, writer):
                    self._folder.remove_temporary(path)
            except OSError:  # its writer has renamed it meanwhile, or it can't be asked
                self._watch.forget(path)

    def _is_gone(self, writer: str) -> bool:
        """Is its writer between two writes, dead, or a master that was followed?"""
        if is_own(writer) or owner_has_died(writer):
            return True
        return any(is_same_process(writer, master) for master in Masters(self._folder).followed())

    def _is_silent(self, path: str, writer: str) -> bool:
        """Has a file of another host not changed for a whole lease? On this host, a silent process is only slow."""
        return not is_here(writer) and self._watch.silence(path, signature_of(path)) > self._watch.seconds


class Beating(Protocol):
    """A claim on a trial, or on the folder."""

    def beat(self) -> None:
        """Give a heartbeat. Raises LeaseLost."""


class Heartbeat(threading.Thread):
    """Sends heartbeats for the claim in hand, and notices when its name is gone.

    Args:
        parent: a process that this worker must not outlive. When it has ended, the worker gets SIGTERM.

    Attributes:
        look: called every few seconds, whatever the worker does: it looks for a person's request to stop.
    """

    def __init__(self, parent: int | None = None) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.lost = threading.Event()
        self._parent = parent
        self._claim: Beating | None = None
        self._interval = 1.0
        self.look: Callable[[], None] = lambda: None

    def hold(self, claim: Beating, lease: float) -> None:
        """Send heartbeats for this claim from now on."""
        self.lost.clear()
        self._interval = min(15.0, max(0.05, lease / SIGNS_PER_LEASE))
        self._claim = claim

    def release(self) -> None:
        """Stop: the claim is handed in or dropped."""
        self._claim = None

    def run(self) -> None:
        """Send a heartbeat once per interval, until the process ends."""
        last_beat = last_look = time.monotonic()
        while True:
            time.sleep(min(1.0, self._interval))
            if time.monotonic() - last_look >= LOOK_EVERY:
                last_look = time.monotonic()
                self.look()
            if self._parent is not None and os.getppid() != self._parent:
                self._parent = None
                os.kill(os.getpid(), signal.SIGTERM)
            claim = self._claim
            if claim is None or time.monotonic() - last_beat < self._interval:
                continue
            last_beat = time.monotonic()
            try:
                claim.beat()
            except LeaseLost:
                if claim is self._claim:
                    self.lost.set()
            except OSError:
                pass  # the filesystem is in trouble: try again, the lease is long
