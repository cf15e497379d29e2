"""Who is still alive: workers show signs of life, the master watches for them.

A worker touches its trial's file every few seconds, from a thread of the training process, so that the signs go on
through a long epoch and stop with the process. The master never reads the time they bear: it compares the file with
what it saw before and measures the silence on its own monotonic clock, so no two machines' clocks are compared
(Gray and Cheriton's leases, SOSP 1989, with the clock on one side only).
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from foldertune.protocol.trials import Claim, LeaseLost, Record, TrialName, host_name, own_host, utc_now

DEFAULT_LEASE = 180.0  # seconds; NFS clients may cache a file's attributes for 60
SIGNS_PER_LEASE = 12


def identify_process() -> Record | None:
    """What tells this process from every other, past or present, on any machine; None where /proc is missing.

    A pid alone comes back after a reboot, in another container, or when the numbers wrap: the boot, the
    namespace the pid belongs to and the process's start (clock ticks since boot) make it unique.
    """
    return _identify(os.getpid())


@functools.cache
def _identify(pid: int) -> Record | None:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return {"boot": boot, "namespace": namespace, "start": _state_and_start(pid)[1]}
    except OSError:
        return None


def _state_and_start(pid: int) -> tuple[str, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # the command before it may hold spaces and brackets
    return fields[0].decode(), int(fields[19])


def has_died(claim: Record) -> bool:
    """Is the process that wrote this claim certainly gone? False if it lives, or lives where we can't look."""
    pid, process, mine = claim.get("pid"), claim.get("process"), identify_process()
    if not isinstance(pid, int) or not isinstance(process, dict) or mine is None or not 0 < pid < 2**31:
        return False
    if (process.get("boot"), process.get("namespace")) != (mine["boot"], mine["namespace"]):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    try:
        state, start = _state_and_start(pid)
    except OSError:
        return False  # it is there, but /proc does not show us other users' processes
    return state in "ZX" or start != process.get("start")


def owner_has_died(owner: str) -> bool:
    """The same of a worker that has claimed a trial and not yet said more: all we know of it is in the name."""
    host, _, rest = owner.rpartition("-")[0].rpartition("-")
    if host != own_host() or not rest.isdecimal() or not 0 < int(rest) < 2**31:
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def describe_owner(owner: str) -> Record:
    """The line a worker writes into the trial it claimed."""
    identity = {"host": host_name(), "pid": os.getpid(), "process": identify_process()}
    return {"claimed": owner, **identity, "time": utc_now()}


@dataclass
class _Watched:
    signature: tuple[int, ...]
    since: float  # of this clock, when the signature was first seen


class Leases:
    """The master's view of the claims: for how long has each been silent?

    Args:
        seconds: the lease: silence after which a claim has expired.
        clock: the observer's own monotonic clock, in seconds.
    """

    def __init__(self, seconds: float = DEFAULT_LEASE, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._watched: dict[TrialName, _Watched] = {}
        self._last_look = clock()

    def look(self, current: set[TrialName]) -> None:
        """Begin a round of questions. Claims not in `current` are forgotten; after a long pause all start anew."""
        now = self._clock()
        if now - self._last_look > self.seconds / 2:  # we were stopped ourselves: silence proves nothing
            for watched in self._watched.values():
                watched.since = now
        self._last_look = now
        self._watched = {name: seen for name, seen in self._watched.items() if name in current}

    def is_new(self, name: TrialName) -> bool:
        """Is this the first time this name is asked about?"""
        return name not in self._watched

    def silence(self, name: TrialName, signature: tuple[int, ...]) -> float:
        """Seconds for which what is watched under this name has not changed, as far as we have watched it."""
        now = self._clock()
        watched = self._watched.get(name)
        if watched is None or watched.signature != signature:
            self._watched[name] = _Watched(signature, now)
            return 0.0
        return now - watched.since


class Heartbeat(threading.Thread):
    """Shows signs of life for the claim in hand, and notices when its name is gone.

    Args:
        parent: a process with which this worker ends, too; it is sent SIGTERM, as by a person.
    """

    def __init__(self, parent: int | None = None) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.lost = threading.Event()
        self._parent = parent
        self._claim: Claim | None = None
        self._interval = 1.0

    def hold(self, claim: Claim, lease: float) -> None:
        """Begin to show signs of life for this claim."""
        self.lost.clear()
        self._interval = min(15.0, max(0.05, lease / SIGNS_PER_LEASE))
        self._claim = claim

    def release(self) -> None:
        """The claim is handed in or dropped: no more signs."""
        self._claim = None

    def run(self) -> None:
        """Once an interval, until the process ends."""
        last_beat = time.monotonic()
        while True:
            time.sleep(min(1.0, self._interval))
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
