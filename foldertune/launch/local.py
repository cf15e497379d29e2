"""Several workers on one machine, each a process: kept alive while there is work, stopped together."""

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

from foldertune.protocol import SAFE

WORKER = Path(__file__).resolve().parent.parent.parent / "worker.py"
RESTARTS = 3  # of each, in a row without any trial coming to an end; what dies more often, starting again won't mend
STOP_SECONDS = 25.0  # longer than they give a training to save its state
BAD_USAGE = 2  # the worker's exit code for what a restart would not change


@dataclass
class _Slot:
    name: str
    device: str
    log: Path | None
    process: subprocess.Popen[bytes]
    restarts: int = 0
    progress: int = 0  # of the search when it was last started
    start_at: float | None = None  # of a dead one, by our monotonic clock
    over: bool = False


class LocalWorkers:
    """A number of worker processes. Processes, so that each has its own memory limit, and takes no other along.

    Args:
        devices: of each, what it trains on. Workers of one GPU are told of how many they are one, in the environment:
            TRIALS_PER_GPU.
        options: the command line of all.
        logs: where `worker-K.log` is to be, with what worker K says; None: they say it where we do.
        say: told, in a line, of each that dies.
    """

    def __init__(
        self, devices: Sequence[str], options: Sequence[str], logs: Path | None, say: Callable[[str], None]
    ) -> None:
        self._say = say
        self._devices = devices
        # In a session of its own a worker does not get the terminal's Ctrl-C; `stop` ends it in good order.
        self._command = [sys.executable, str(WORKER), *options, "--parent", str(os.getpid())]
        self._slots: list[_Slot] = []
        for number, device in enumerate(devices, start=1):
            name = f"worker-{number}"
            log = logs / f"{name}.log" if logs else None
            self._slots.append(_Slot(name, device, log, self._start(device, log)))

    def _start(self, device: str, log: Path | None) -> subprocess.Popen[bytes]:
        command = [*self._command, "--device", device, "--trials-per-gpu", "1"]
        environment = {**os.environ, "TRIALS_PER_GPU": str(self._devices.count(device))}
        with contextlib.ExitStack() as stack:
            output = None
            if log:
                output = stack.enter_context(open(log, "ab", opener=_open_safely))
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )

    @property
    def all_gone(self) -> bool:
        """Has every one ended, not to be started again?"""
        return bool(self._slots) and all(slot.over for slot in self._slots)

    @property
    def exit_code(self) -> int:
        """Of those that have ended: 0, or the worst."""
        return max((abs(slot.process.returncode or 0) for slot in self._slots if slot.over), default=0)

    def look_after(self, count_progress: Callable[[], int]) -> None:
        """Start again those that died, the more slowly the oftener.

        Args:
            count_progress: a number that grows whenever a trial or an attempt comes to an end. A worker that dies of
                its trials makes some, one that dies of itself makes none.
        """
        for slot in self._slots:
            code = slot.process.poll()
            if code is None or slot.over:
                continue
            if slot.start_at is not None:  # it has died, and its turn comes
                if time.monotonic() >= slot.start_at:
                    slot.process, slot.start_at = self._start(slot.device, slot.log), None
                continue
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            progress = count_progress()
            if progress > slot.progress:
                slot.restarts, slot.progress = 0, progress
            if code in (0, BAD_USAGE) or slot.restarts >= RESTARTS:
                slot.over = True
                if code:
                    self._say(f"{slot.name} {how}{f': {_last_line(slot.log)} ({slot.log})' if slot.log else ''}")
                continue
            slot.start_at = time.monotonic() + slot.restarts  # seconds: 0, 1, 2
            slot.restarts += 1
            see = f"; see {slot.log}" if slot.log else ""
            self._say(f"{slot.name} {how}; starting it again ({slot.restarts} of {RESTARTS} times{see})")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask each to give its trial back and end; kill what does not listen for so long."""
        for slot in self._slots:
            with contextlib.suppress(ProcessLookupError):
                slot.process.terminate()
        deadline = time.monotonic() + seconds
        for slot in self._slots:
            try:
                slot.process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                slot.process.kill()
                slot.process.wait()


def _open_safely(path: str, flags: int) -> int:
    return os.open(path, flags | SAFE, 0o666)


def _last_line(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 4096, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
