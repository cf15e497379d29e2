"""Where a process runs: the host, and the boot and pid namespace in which its number means something.

Two hosts may share the first part of their names, and two containers the whole name. So a token names host and process,
and holds a mark of the place. Only of processes at one's own place can one say that they are gone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import re
import socket

MAX_HOST = 40  # characters of a host name that go into a file name
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that look alike
MARK = 4  # letters of a token that stand for a place: two places of one host name share them once in a million pairs


@functools.cache
def host_name() -> str:
    """This machine's full name."""
    return socket.gethostname()


def own_host() -> str:
    """This machine's name as tokens spell it: without its domain."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", host_name().split(".")[0])[:MAX_HOST] or "host"


@functools.cache
def boot_and_namespace() -> tuple[str, int] | None:
    """This boot of this machine, and the namespace of our process numbers. None where /proc does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip(), os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


@functools.cache
def own_place() -> str:
    """A mark of our boot and pid namespace. Where nothing tells them, no other process has the same mark."""
    place = repr(boot_and_namespace() or random.SystemRandom().random())
    digest = int.from_bytes(hashlib.sha256(place.encode()).digest(), "big")
    return "".join(LETTERS[digest // len(LETTERS) ** k % len(LETTERS)] for k in range(MARK))
