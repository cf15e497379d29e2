"""Which process owns a claim or writes a file, and has it died?"""

from __future__ import annotations

import functools
import os

from foldertune.protocol.hosts import boot_and_namespace, host_name
from foldertune.protocol.names import is_here, pid_of
from foldertune.protocol.proposal import Record
from foldertune.protocol.trial import utc_now


def identify_process() -> Record | None:
    """An identity that no other process has, past or present, on any machine. None where /proc is missing.

    A pid alone is not unique: it comes back after a reboot, in another container, or when the numbers wrap. The boot,
    the pid namespace and the start time of the process (clock ticks since boot) make it unique.
    """
    return _identify(os.getpid())


@functools.cache
def _identify(pid: int) -> Record | None:
    place = boot_and_namespace()
    if place is None:
        return None
    try:
        return {"boot": place[0], "namespace": place[1], "start": _state_and_start(pid)[1]}
    except OSError:
        return None


def _state_and_start(pid: int) -> tuple[str, int]:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # the command before it may hold spaces and brackets
    return fields[0].decode(), int(fields[19])


def describe_owner(owner: str) -> Record:
    """The line that a worker appends to the trial it claimed."""
    return {**_describe(owner, os.getpid()), "time": utc_now()}


@functools.cache
def _describe(owner: str, pid: int) -> Record:
    return {"claimed": owner, "host": host_name(), "pid": pid, "process": identify_process()}


def has_died(claim: Record) -> bool:
    """Is the process that wrote this claim certainly gone? False if it lives, or may live where we can't look."""
    pid, process, mine = claim.get("pid"), claim.get("process"), identify_process()
    if not isinstance(pid, int) or not isinstance(process, dict) or mine is None or not 0 < pid < 2**31:
        return False
    if (process.get("boot"), process.get("namespace")) != (mine["boot"], mine["namespace"]):
        return False
    if _is_gone(pid):
        return True
    try:
        state, start = _state_and_start(pid)
    except OSError:
        return False  # it exists, but /proc does not show us other users' processes
    return state in "ZX" or start != process.get("start")


def owner_has_died(owner: str) -> bool:
    """Is the process with this token certainly gone?

    False for processes of other hosts, boots and pid namespaces: their numbers mean nothing here.
    """
    pid = pid_of(owner)
    return is_here(owner) and pid is not None and _is_gone(pid)


def _is_gone(pid: int) -> bool:
    """Is there no process with this number on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    return False


def is_own(owner: str) -> bool:
    """Is this a token of this very process?"""
    return is_here(owner) and pid_of(owner) == os.getpid()
