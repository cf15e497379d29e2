"""The verdict recommends a lease."""

from __future__ import annotations

import math
import re

from foldertune.doctor.folder import LOCAL, mount_of
from foldertune.doctor.visit import Visit
from foldertune.protocol import DEFAULT_LEASE
from foldertune.shipped import command

LOCAL_LEASE, DELAYS_PER_LEASE = 30.0, 3  # see `recommend`


def is_local(visit: Visit) -> bool:
    """Is the folder on a disk (or in the memory) of this machine, as far as we know?"""
    return mount_of(visit.logs.path)[0] in LOCAL | {"tmpfs"} and not visit.far


def recommend(visit: Visit) -> float:
    """The lease in seconds.

    A worker sends a heartbeat twelve times per lease, and at least every 15 s. The master sees each heartbeat after
    the delay of the filesystem's caches, so it may see silence for delay + lease/12 although all is well. With a lease
    of three delays, that is less than half the lease. The rest is for pauses: a server that restarts, a machine that
    swaps.

    The default of 180 s is three times the 60 s for which an NFS client caches a file that seems not to change. A
    measured delay can be shorter, because new files are cached for only 3 s. So a measured delay or a mount option
    can make the lease longer, but not shorter. On a disk of this machine nothing is cached, and the master sees at once
    that a process has died: the 30 s there are for a worker that hangs or is stopped.
    """
    caches = [float(n) for n in re.findall(r"\b(?:actimeo|ac(?:reg|dir)max)=(\d+)", mount_of(visit.logs.path)[2])]
    least = LOCAL_LEASE if is_local(visit) else DEFAULT_LEASE
    return max(least, math.ceil(DELAYS_PER_LEASE * max([visit.delay, *caches]) / 10) * 10)


def verdict(visit: Visit) -> str:
    """The sentence for a folder that can be used, with the lease to use."""
    lease = recommend(visit)
    if lease == DEFAULT_LEASE:
        return f"This folder can be used; lease: {lease:g} s (the default)."
    text = f"This folder can be used; lease: {lease:g} s ({command('master', '--lease', f'{lease:g}')})"
    return text + (
        f" if all workers run on this machine, otherwise {DEFAULT_LEASE:g} s (the default)." if is_local(visit) else "."
    )
