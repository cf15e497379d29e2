"""The worker's side of a trainer, the process that runs a person's training code."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import foldertune
from foldertune.errors import UserError
from foldertune.protocol import Record, TrialName
from foldertune.running import devices
from foldertune.running.process import PATIENCE, Process
from foldertune.running.signals import StopSignals
from foldertune.shipped import COMMAND_OBJECTIVE, command
from foldertune.text import printable
from foldertune.trainer.channel import Channel, Message
from foldertune.trainer.report import Stopped

LAST_WORDS = ("result", "error", "stopped")  # begin a training's last message
ROUND = 1.0  # seconds: the longest wait for a message
LOADS = 3  # times that a process may die while it loads the objective: one may have been killed by chance
TAIL = 4096  # bytes of output, kept to explain how a trainer ended
HERE = str(Path(foldertune.__file__).resolve().parents[1])  # the directory that holds the package


class Saving(NamedTuple):
    """When a training saves its state, if it can."""

    every: float = 0.0  # seconds between two checkpoints; 0: only when stopped
    since: float | None = None  # also after each epoch from this one on; None: not for that


class Trainer:
    """A person's training code in a process of its own. The kinds differ in how we talk to it.

    Args:
        device: where it trains; see `running/devices.py`.
        memory: bytes that it may take, with all that it has started; None: no limit.

    Attributes:
        apart: is NVIDIA's MPS hidden from it?
        advice: what to do if a result lacks the metric, in words that follow others.
        wants_out: does it need the directory `out`?
        saves_state: can every training resume, as far as we know before it begins?
        on_output: called with what the process prints, piece by piece.
        data: the bytes that followed the last message.
    """

    advice = "; return a dict that has it"
    wants_out = saves_state = False

    def __init__(self, signals: StopSignals, device: str, memory: int | None) -> None:
        self.on_output: Callable[[bytes], None] = show
        self.device, self.memory, self.apart = device, memory, False
        self._signals = signals
        self._process: Process | None = None
        self.data = self._tail = b""

    def check(self, study: Record) -> None:
        """Raise UserError if trials of this study can't be trained."""

    def is_ready(self) -> bool:
        """Can it train at once?"""
        return True

    def prepare(self) -> None:
        """Get ready for a trial. Raises UserError if this machine can't train, Stopped when a signal comes."""

    def keep_apart(self, apart: bool) -> None:
        """Train apart from NVIDIA's MPS from now on, or with it. Raises UserError and Stopped: see `prepare`."""
        self.apart = apart
        self.end()
        self.prepare()

    def begin(self, name: TrialName, settings: Record, saving: Saving, out: str) -> None:
        """Start training with these settings. `out` is a directory that all attempts at this trial share."""
        raise NotImplementedError

    def send(self, message: Message, data: bytes = b"") -> None:
        """Answer a message of the training's."""

    def stop(self, how: str, grace: float) -> None:
        """Ask the training to end within the grace, in seconds: "save" after its next checkpoint, or "now".

        Or "report": at its next report, where nothing is interrupted, so that the trainer can be used again.
        """
        raise NotImplementedError

    def next(self, until: float) -> Message | None:
        """The next message; None at that time, or when a signal has come. The last one says how the process ended."""
        while True:
            if message := self._take():
                return message
            if self._process is None or self._process.how:
                return self._last_message()
            left = until - time.monotonic()
            if left <= 0 or (not self._process.listen(min(left, ROUND)) and not self._process.how):
                return self._take()

    def has_more_lines(self) -> bool:
        """Has the next message come already, and will it, too, become a line of the trial's file?"""
        return False

    def end(self, seconds: float = PATIENCE) -> None:
        """End the process and all that it has started. It has so many seconds to end in its own way."""
        if self._process and self._process.how is None:
            self._process.end(seconds)
        self._process = None

    def _take(self) -> Message | None:
        """The next message that has come."""
        raise NotImplementedError

    def _last_message(self) -> Message:
        """What takes the place of the messages that a process that has ended will not send."""
        process, self._process = self._process, None
        printed = self._tail.decode(errors="replace")
        last = printed.strip().rpartition("\n")[2]
        said = f"; it last said: {printable(last)[:200]}" if last else ""
        return {"error": f"the training process {process.how if process else 'is gone'}{said}", "output": printed}

    def _hear(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL:]
        self.on_output(data)


def check_objective(logs: Path, study: Record, ours: str) -> None:
    """Raise UserError if this study is trained by other code than ours."""
    theirs = study.get("objective", ours)
    if theirs != ours:
        option = ("--command", "…") if theirs == COMMAND_OBJECTIVE else ("--objective", theirs)
        raise UserError(
            f"{logs}: this study is for the objective '{theirs}', not '{ours}'; "
            f"if you trust that code, start the worker with: {command('worker', '--logs', logs, *option)}"
        )


def show(data: bytes) -> None:
    """Print what a training printed."""
    with contextlib.suppress(OSError):  # our output may be on the disk that is full
        while data:
            data = data[os.write(1, data) :]


class ObjectiveTrainer(Trainer):
    """Trains with a Python function MODULE:FUNCTION. It is loaded once, and trains one trial after another."""

    def __init__(self, signals: StopSignals, name: str, device: str, memory: int | None = None) -> None:
        super().__init__(signals, device, memory)
        self.name = name
        self._socket, self._channel = socket.socket(), Channel(-1)

    def is_ready(self) -> bool:
        """Is the process there, as far as we have heard? If it has just ended, `begin` starts another one."""
        return self._process is not None and self._process.how is None

    def prepare(self) -> None:
        """Start the process, and wait until it has loaded the objective."""
        for _ in range(LOADS):
            self.end(0)
            self._start()
            answer = self._wait_until_loaded()
            if "ready" in answer:
                return
            if "unable" in answer:
                self.end()
                error = UserError(answer["unable"])
                error.add_note(answer.get("traceback", ""))  # for those who want it
                raise error
        raise UserError(f"--objective {self.name}: while it is loaded, {answer['error']}")

    def _wait_until_loaded(self) -> Message:
        while not self._signals.number:
            if message := self.next(time.monotonic() + ROUND):
                return message
        self.end(0)
        raise Stopped

    def _start(self) -> None:
        self._socket.close()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self._channel, self._tail = Channel(self._socket.fileno()), b""
        program = f"import sys; here = {HERE!r}; here in sys.path or sys.path.insert(0, here); "
        shown, keep = devices.show(self.device, apart=self.apart), [theirs.fileno()]
        program += f"from foldertune.trainer.main import main; main({keep[0]}, {self.name!r}, *{shown[:2]!r})"
        command = [sys.executable, "-P", "-c", program]
        try:
            self._process = Process(
                command, self._signals, self._hear, self._channel, keep, shown.environment, self.memory
            )
        except OSError as error:
            raise UserError(f"no process can be started here: {error.strerror}; see ulimit -a") from None
        finally:
            theirs.close()

    def begin(self, name: TrialName, settings: Record, saving: Saving, out: str) -> None:
        """Have the function train."""
        self._tail = b""
        order = {"train": settings, "checkpoint_every": saving.every, "save_from": saving.since}
        try:
            self._channel.send(order)
        except OSError:  # something that an earlier training left behind has ended the process
            self.end(0)
            self.prepare()
            self.send(order)

    def send(self, message: Message, data: bytes = b"") -> None:
        """Send a message to the program in the process."""
        with contextlib.suppress(OSError):  # it has ended: `next` says so
            self._channel.send(message, data)

    def stop(self, how: str, grace: float) -> None:
        """Ask the training to end. To end now, a signal interrupts it."""
        self.send({"stop": "now" if how == "report" else how})
        if how == "now" and self._process:
            self._process.signal(signal.SIGTERM)

    def end(self, seconds: float = PATIENCE) -> None:
        """End the process and all that it has started."""
        self.send({"leave": True})
        super().end(seconds)

    def has_more_lines(self) -> bool:
        """Has the next message come already, and will it, too, become a line of the trial's file?"""
        lines = b'{"report"', b'{"result"'
        if not self._channel.next_begins_with(*lines):
            with contextlib.suppress(OSError):
                self._channel.receive()
        return self._channel.next_begins_with(*lines)

    def _take(self) -> Message | None:
        try:
            message = self._channel.take()
            self.data = self._channel.data
            if message and not message.keys().isdisjoint(LAST_WORDS) and self._process and self._process.how is None:
                self._process.read_output()  # what was printed before belongs to this training
            return message
        except ValueError:  # a training was interrupted in the middle of a message, or wrote there itself
            self.end(0)
            return {"error": "the training process broke its line to the worker"}
