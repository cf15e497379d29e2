"""Workers that a master starts on its own machine: kept alive while it searches, stopped when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.trials import SAFE

WORKER = Path(__file__).resolve().parent.parent / "worker.py"
RESTARTS = 3  # of each, in a row without any trial coming to an end; what dies more often, starting again won't mend
STOP_SECONDS = 25.0  # longer than they give a training to save its state
BAD_USAGE = 2  # the worker's exit code for what a restart would not change


@dataclass
class _Slot:
    log: Path
    process: subprocess.Popen[bytes]
    restarts: int = 0
    progress: int = 0  # of the search when it was last started
    start_at: float | None = None  # of a dead one, by our monotonic clock
    over: bool = False


class LocalWorkers:
    """A number of worker processes; each writes what it says to `worker-K.log` in the shared folder.

    Args:
        count: how many.
        options: the command line of each.
        logs: where their output goes.
        say: told, in a line, of each that dies.
    """

    def __init__(self, count: int, options: Sequence[str], logs: Path, say: Callable[[str], None]) -> None:
        self._say = say
        # In a session of its own a worker does not get the terminal's Ctrl-C; `stop` ends it in good order.
        self._command = [sys.executable, str(WORKER), *options, "--parent", str(os.getpid())]
        paths = [logs / f"worker-{number}.log" for number in range(1, count + 1)]
        self._slots = [_Slot(path, self._start(path)) for path in paths]

    def _start(self, log: Path) -> subprocess.Popen[bytes]:
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags | SAFE, 0o666)) as output:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def all_gone(self) -> bool:
        """Has every one ended, not to be started again?"""
        return bool(self._slots) and all(slot.over for slot in self._slots)

    def look_after(self, progress: int) -> None:
        """Start again those that died, the more slowly the oftener.

        Args:
            progress: a number that grows whenever a trial or an attempt comes to an end. A worker that dies of its
                trials makes some, one that dies of itself makes none.
        """
        for slot in self._slots:
            code = slot.process.poll()
            if code is None or slot.over:
                continue
            if slot.start_at is not None:  # it has died, and its turn comes
                if time.monotonic() >= slot.start_at:
                    slot.process, slot.start_at = self._start(slot.log), None
                continue
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if progress > slot.progress:
                slot.restarts, slot.progress = 0, progress
            if code in (0, BAD_USAGE) or slot.restarts >= RESTARTS:
                slot.over = True
                if code:
                    self._say(f"{slot.log.stem} {how}: {_last_line(slot.log)} ({slot.log})")
                continue
            slot.start_at = time.monotonic() + slot.restarts  # seconds: 0, 1, 2
            slot.restarts += 1
            self._say(f"{slot.log.stem} {how}; starting it again ({slot.restarts} of {RESTARTS} times; see {slot.log})")

    def stop(self) -> None:
        """Ask each to give its trial back and end; kill what does not listen."""
        for slot in self._slots:
            with contextlib.suppress(ProcessLookupError):
                slot.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for slot in self._slots:
            try:
                slot.process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                slot.process.kill()
                slot.process.wait()


def _last_line(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 4096, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
