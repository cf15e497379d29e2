"""Watches the memory of a trainer together with all processes that it has started."""

from __future__ import annotations

import time
from collections.abc import Iterable

from foldertune.trainer.guardian import family

EVERY = 0.25  # seconds between two looks; what fills a machine's memory in less time is left to its kernel
MOST_OF_A_CORE = 0.05  # so it looks less often where a look takes long
# Of each process. Pages of mapped files are left out: the kernel takes them back when others need the memory.
OWN = ("RssAnon", "RssShmem", "VmSwap")  # in its `status`; a page that several processes share counts for each of them
ITS_SHARE = ("Pss_Anon", "Pss_Shmem", "SwapPss")  # in its `smaps_rollup`; such a page is divided among them
UNITS = ("KiB", "MiB", "GiB", "TiB")


class MemoryWatch:
    """Looks rarely, and measures exactly only what may be too much: that takes milliseconds for each gigabyte.

    Args:
        leader: the process from which the others descend.
        limit: the bytes that all of them may have together.
    """

    def __init__(self, leader: int, limit: int) -> None:
        self.limit = limit
        self._leader, self._next_look = leader, 0.0

    def seconds_to_next_look(self) -> float:
        """How long may the caller wait for something else?"""
        return max(self._next_look - time.monotonic(), 0)

    def finds_too_much(self) -> bool:
        """Do they have more than the limit? False between two looks."""
        start = time.monotonic()
        if start < self._next_look:
            return False
        processes = family(self._leader)
        is_too_much = self._sum("status", OWN, processes) > self.limit
        if is_too_much and len(processes) > 1 and (exactly := self._sum("smaps_rollup", ITS_SHARE, processes)):
            is_too_much = exactly > self.limit
        end = time.monotonic()
        self._next_look = end + max(EVERY, (end - start) / MOST_OF_A_CORE)
        return is_too_much

    def _sum(self, file: str, names: tuple[str, ...], processes: Iterable[int]) -> int:
        return sum(read_sizes(f"/proc/{process}/{file}", names) for process in processes)


def can_watch_memory() -> bool:
    """Does this system tell what a process has?"""
    return read_sizes("/proc/self/status", OWN) > 0


def read_sizes(path: str, names: tuple[str, ...]) -> int:
    """The sum in bytes of these lines `Name:   12 kB` of a file; 0 if the process has ended."""
    try:
        with open(path) as file:
            lines = [line.split() for line in file if line.startswith(names)]
    except OSError:
        return 0
    return sum(1024 * int(kilobytes) for _, kilobytes, *_ in lines)


def in_words(size: int) -> str:
    """A number of bytes, such as `8 GiB`."""
    power = next((power for power in (4, 3, 2) if size >= 1024**power), 1)
    return f"{size / 1024**power:.4g} {UNITS[power - 1]}"
