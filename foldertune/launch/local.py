"""Starts several workers on this machine, each in its own process, keeps them alive, and stops them together."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from foldertune.errors import UserError
from foldertune.launch.about import LAUNCHER
from foldertune.launch.machine import count_cores, let_others_finish
from foldertune.protocol import SAFE, lack_of_access, share
from foldertune.running.process import reap_orphans
from foldertune.shipped import HOME
from foldertune.text import ending

RESTARTS = 3  # of one worker while no trial ends; more restarts would not help
STOP_SECONDS = 25.0  # longer than a worker gives its training to save its state
BAD_USAGE = 2  # the worker's exit code for an error that a restart can't repair


def worker_command() -> list[str]:
    """The command that starts a worker: the checkout's worker.py, or the installed package.

    `-P` keeps the current directory off the path until the worker looks for its objective there.
    """
    script = HOME / "worker.py"
    return [sys.executable, *([str(script)] if script.is_file() else ["-P", "-m", "foldertune", "worker"])]


@dataclass
class _Slot:
    """The place of one worker, which several processes may take one after another."""

    name: str
    device: str
    log: Path | None
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    progress: int = 0  # of the search, when `restarts` was last set to 0
    start_at: float | None = None  # when to restart a dead worker, by our monotonic clock
    over: bool = False


class LocalWorkers:
    """Worker processes on this machine. Each has memory of its own, and can die without harm to the others.

    Args:
        devices: the device of each worker. The environment variable TRIALS_PER_GPU tells workers how many of them
            share their GPU.
        options: the command line that each worker gets.
        logs: the folder of `worker-K.log`, the output of worker K; None: workers write to our own output.
        say: called with a line about each worker that dies.
    """

    def __init__(
        self, devices: Sequence[str], options: Sequence[str], logs: Path | None, say: Callable[[str], None]
    ) -> None:
        self._say = say
        self.devices = devices
        self._is_crowded = len(devices) > count_cores()
        self._command = [*worker_command(), *options, "--parent", str(os.getpid())]
        names = (f"worker-{number}" for number in range(1, len(devices) + 1))
        self._slots = [
            _Slot(name, device, logs / f"{name}.log" if logs else None)
            for name, device in zip(names, devices, strict=True)
        ]

    def start(self) -> None:
        """Start all workers. May be called again after an OSError."""
        for slot in self._slots:
            if slot.process is None:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        command = [*self._command, "--device", slot.device, "--trials-per-gpu", "1"]
        environment = {**os.environ, "TRIALS_PER_GPU": str(self.devices.count(slot.device))}
        starter = os.environ.get(LAUNCHER) or ("master" if slot.log else "local")
        environment[LAUNCHER] = f"{starter} {slot.name.rpartition('-')[2]}"
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(_open_log(slot.log)) if slot.log else None
            # In its own session, a worker does not get the terminal's Ctrl-C: `stop` ends it in good order.
            slot.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )
        if self._is_crowded:
            let_others_finish(slot.process.pid)
        slot.start_at = None

    @property
    def all_gone(self) -> bool:
        """Has every worker ended for good?"""
        return bool(self._slots) and all(slot.over for slot in self._slots)

    @property
    def exit_code(self) -> int:
        """The worst exit code of the workers that have ended for good."""
        ended = [slot.process.returncode for slot in self._slots if slot.over and slot.process]
        return max((abs(code or 0) for code in ended), default=0)

    def look_after(self, count_progress: Callable[[], int]) -> None:
        """Restart the workers that died, after a pause that grows with every restart."""
        reap_orphans({slot.process.pid for slot in self._slots if slot.process})
        for slot in self._slots:
            code = slot.process.poll() if slot.process else None
            if code is None or slot.over:
                continue
            if slot.start_at is None:
                self._bury(slot, code, count_progress())
            elif time.monotonic() >= slot.start_at:
                self._start(slot)

    def _bury(self, slot: _Slot, code: int, progress: int) -> None:
        """Decide whether a worker that has ended is started again, and when."""
        how = ending(code)
        if progress > slot.progress:
            slot.restarts, slot.progress = 0, progress
        if code in (0, BAD_USAGE) or slot.restarts >= RESTARTS:
            slot.over = True
            if code:
                self._say(f"{slot.name} {how}{f': {_last_line(slot.log)} ({slot.log})' if slot.log else ''}")
            return
        slot.start_at = time.monotonic() + slot.restarts  # seconds: 0, 1, 2
        slot.restarts += 1
        see = f"; see {slot.log}" if slot.log else ""
        self._say(f"{slot.name} {how}; starting it again ({slot.restarts} of {RESTARTS} times{see})")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask every worker to give its trial back and end; after that many seconds, kill those that have not."""
        processes = [slot.process for slot in self._slots if slot.process]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + seconds
        for process in processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _open_log(path: Path) -> BinaryIO:
    try:
        file = open(path, "ab", opener=_open_safely)  # noqa: SIM115
    except OSError as error:
        if isinstance(error, PermissionError) and (lack := lack_of_access(str(path))):
            raise UserError(f"{lack}, or move it away") from None
        if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
            raise UserError(f"{path}: is not a regular file; move it away") from None
        raise
    share(file.fileno(), str(path.parent))
    return file


def _open_safely(path: str, flags: int) -> int:
    return os.open(path, flags | SAFE, 0o666)


def _last_line(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 4096, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
