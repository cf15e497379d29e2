"""Starts several workers on this machine, each in its own process, keeps them alive, and stops them together."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from foldertune.errors import UserError
from foldertune.launch.machine import count_cores, let_others_finish, stay_on
from foldertune.launch.slurm_job import LAUNCHER, leave, seconds_left
from foldertune.protocol import SAFE, Folder, lack_of_access, make_directory, share
from foldertune.running.process import reap_orphans
from foldertune.running.signals import StopSignals
from foldertune.running.time_left import TimeLeft
from foldertune.running.trainer import HERE
from foldertune.running.waiting import Interrupted, outlast
from foldertune.shipped import HOME
from foldertune.text import ending
from foldertune.trouble import Trouble

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

    number: int
    device: str
    cores: set[int] | None
    log: Path | None
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    progress: int = 0  # of the search, when `restarts` was last set to 0
    start_at: float | None = None  # when to restart a dead worker, by our monotonic clock
    over: bool = False

    @property
    def name(self) -> str:
        return f"worker-{self.number}"


class LocalWorkers:
    """Worker processes on this machine. Each has memory of its own, and can die without harm to the others.

    Args:
        devices: the device of each worker. The environment variable TRIALS_PER_GPU tells workers how many of them
            share their GPU, and LAUNCHER what started them.
        options: the command line that each worker gets.
        logs: the folder of `worker-K.log`, the output of worker K; None: workers write to our own output.
        say: called with a line about each worker that dies.
        launcher: what we are called: `master` or `local`.
        cores: the cores of each worker, its own; empty: the system decides.
        time_left: until this machine is taken away, if a person has said it. Each worker is told what is left
            when it starts.
    """

    def __init__(
        self,
        devices: Sequence[str],
        options: Sequence[str],
        logs: Path | None,
        say: Callable[[str], None],
        launcher: str = "local",
        cores: Sequence[set[int]] = (),
        time_left: TimeLeft | None = None,
    ) -> None:
        self._say = say
        self._launcher, self._time_left = launcher, time_left
        self.devices = devices
        self._is_crowded = len(devices) > count_cores()
        self._command = [*worker_command(), *options, "--parent", str(os.getpid())]
        self._slots = [
            _Slot(number, device, own_cores, logs / f"worker-{number}.log" if logs else None)
            for number, (device, own_cores) in enumerate(zip_longest(devices, cores), start=1)
        ]

    def start(self) -> None:
        """Start all workers. May be called again after an OSError."""
        for slot in self._slots:
            if slot.process is None:
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        command = [*self._command, "--device", slot.device, "--trials-per-gpu", "1", "--gpus-per-trial", "1"]
        if self._time_left:
            command += ["--time-left", f"{max(self._time_left.seconds, 0):.3f}"]  # the last one counts
        environment = {**os.environ, "TRIALS_PER_GPU": str(self.devices.count(slot.device))}
        outer = os.environ.get(LAUNCHER)  # another launcher has started us, on this host; it speaks to Slurm
        environment[LAUNCHER] = f"{outer}.{slot.number}" if outer else f"{self._launcher} {slot.number}"
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(open_log(slot.log)) if slot.log else None
            # In its own session, a worker does not get the terminal's Ctrl-C: `stop` ends it in good order.
            slot.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
            )
        if slot.cores:
            stay_on(slot.cores, slot.process.pid)
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
        if self._time_left and self._time_left.is_short():
            slot.over = True
            return self._say(f"{slot.name} {how}; too little time is left to start it again")
        slot.start_at = time.monotonic() + slot.restarts  # seconds: 0, 1, 2
        slot.restarts += 1
        see = f"; see {slot.log}" if slot.log else ""
        self._say(f"{slot.name} {how}; starting it again ({slot.restarts} of {RESTARTS} times{see})")

    @property
    def needs_a_person(self) -> bool:
        """Has a worker ended that a restart does not help?"""
        return any(slot.process is not None and slot.process.returncode == BAD_USAGE for slot in self._slots)

    def stop(self, seconds: float = STOP_SECONDS, *, is_time_up: bool = False) -> None:
        """Ask every worker to give its trial back and end; after that many seconds, kill those that have not.

        Args:
            is_time_up: do they end because this machine is taken away? They judge then whether a next one would help.
        """
        processes = [slot.process for slot in self._slots if slot.process]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGUSR1 if is_time_up else signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for process in processes:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def supervise(
    workers: LocalWorkers, folder: Folder, seconds: float, say: Callable[[str], None], *, are_patient: bool
) -> int:
    """Start workers and look after them until all have ended or a signal stops them. Returns the exit code.

    Args:
        seconds: the time that they have to end when a signal comes.
        are_patient: do they wait for work until the study is complete? Then those of a job of Slurm's that end have run
            out of time.
    """
    signals = StopSignals()
    signals.listen()
    trouble = Trouble(say)
    with contextlib.suppress(Interrupted):
        outlast(folder, workers.start, signals, say)
    while not workers.all_gone and not signals.wait(0.1):
        try:
            workers.look_after(lambda: len(folder.settled()))
            trouble.is_over()
        except OSError as error:  # it passes; the workers themselves wait, too
            trouble.is_there(error)
    workers.stop(seconds, is_time_up=signals.is_time_up)
    if signals.is_time_up and workers.needs_a_person:
        return BAD_USAGE
    time_is_up = are_patient and seconds_left() is not None and not workers.exit_code
    return leave(signals.exit_code or workers.exit_code, folder, signals.number, time_is_up=time_is_up)


def start_in_background(words: Sequence[str], log: Path) -> int:
    """Start `foldertune WORDS` in a session of its own, so that it outlives the terminal. Returns its process number.

    Args:
        log: the file that collects what it prints. Raises UserError if it can't be opened.
    """
    program = f"import sys; sys.path.insert(0, {HERE!r}); from foldertune.cli import main; sys.exit(main({[*words]!r}))"
    make_directory(log.parent)
    with open_log(log) as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        ).pid  # fmt: skip


def open_log(path: Path) -> BinaryIO:
    """Open the file that collects what a worker prints."""
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
