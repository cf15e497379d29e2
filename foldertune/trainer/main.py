"""The trainer's program: load the objective once, then train one trial after another for the worker."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

from foldertune.errors import UserError
from foldertune.text import in_a_line
from foldertune.trainer.channel import Channel, Message
from foldertune.trainer.guardian import STOPPING
from foldertune.trainer.metrics import as_metrics
from foldertune.trainer.objective import Objective, load_objective
from foldertune.trainer.report import Listener, Report, Stopped


def main(descriptor: int, name: str, device: str) -> None:
    """Serve the worker at the other end of this descriptor, until it is gone or says `leave`."""
    sys.argv[1:] = []
    surroundings = Surroundings()
    channel = Channel(descriptor)
    trainer = Training(channel)
    trainer.listen_to_signals()
    os.register_at_fork(before=hold_signals, after_in_parent=release_signals, after_in_child=trainer.forget_signals)
    try:
        objective = load_objective(name, device)
    except UserError as error:
        cause = error.__cause__
        channel.send({"unable": str(error), "traceback": "".join(traceback.format_exception(cause)) if cause else ""})
        return
    answer: Message = {"ready": True}
    while True:
        flush()
        channel.send(answer)
        surroundings.restore()  # now, while the worker is busy with the answer
        trainer.listen_to_signals()
        order = trainer.wait_for("train", "leave")
        if order is None or "leave" in order:
            break
        answer = trainer.train(objective, order["train"], order["checkpoint_every"], device)


def flush() -> None:
    """Let what the training has printed reach the worker before its result does."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the training may have closed or replaced it
            stream.flush()


class Surroundings:
    """What a training may change in its process, and the next training expects as it was."""

    def __init__(self) -> None:
        self._directory = os.getcwd()
        self._streams = sys.stdin, open_output(1), open_output(2)
        self._outputs = os.dup(1), os.dup(2)  # `dup` keeps them from the processes that the training starts
        faulthandler.enable(self._outputs[1])
        self.restore()

    def restore(self) -> None:
        """Go back to the first directory, with the first output."""
        with contextlib.suppress(OSError):  # the directory may be gone
            os.chdir(self._directory)
        for number, output in enumerate(self._outputs, start=1):
            os.dup2(output, number)
        sys.stdin, sys.stdout, sys.stderr = self._streams
        if sys.stdout.closed:
            sys.stdout = open_output(1)
        if sys.stderr.closed:
            sys.stderr = open_output(2)


def open_output(descriptor: int) -> TextIO:
    """A stream to our output. It is a pipe: line by line, so that a training that is killed keeps nothing back."""
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)


class Training(Listener):
    """Passes to the worker what the objective reports, and to the objective that it must stop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stop = ""  # what the worker said: "save" or "now"
        self._was_signalled = self._must_look = False
        self._saves_state = False
        self._may_be_interrupted = False
        self._checkpoint_every = self._next_checkpoint = math.inf

    def train(self, objective: Objective, settings: Message, checkpoint_every: float, device: str) -> Message:
        """Call the objective. Returns the last message about this trial."""
        self._was_signalled = self._saves_state = False
        self._checkpoint_every = checkpoint_every or math.inf
        self._plan_checkpoint()
        try:
            self._may_be_interrupted = True
            self._take_orders()  # one to stop may have come together with that to train
            self._stop_now()
            result = objective(settings, Report(self, device))
            self._may_be_interrupted = False
            if not isinstance(result, dict):
                raise TypeError(f"the objective must return a dict of metrics, not {result!r:.80}")
            return {"result": as_metrics(result, self.say)}
        except Stopped:
            return {"stopped": True}
        except BaseException as error:  # whatever the code of a person raises ends its attempt, not the worker
            self._may_be_interrupted = False
            told = {"error": in_a_line(error), "traceback": traceback.format_exc()}
            return {**told, "signalled": self._was_signalled}

    # ---- what the objective reports

    def epoch(self, record: Message) -> None:
        """Pass on the metrics of an epoch. Raises Stopped."""
        self._send({"report": record})
        self._obey()

    def checkpoints(self) -> Iterator[tuple[str, bytes]]:
        """Path and contents of the checkpoints of this attempt and earlier ones, the latest first."""
        self._saves_state = True
        while True:
            self._send({"resume": True})
            answer = self.wait_for("checkpoint")
            if answer is None or answer["checkpoint"] is None:
                return
            yield answer["checkpoint"], self._channel.data

    def checkpoint_is_due(self) -> bool:
        """Is it time to save the state, or must the training stop? Raises Stopped if even that takes too long."""
        if not self._saves_state:
            self._saves_state = True
            self._send({"saves_state": True})
        self._obey()
        return bool(self._stop) or time.monotonic() >= self._next_checkpoint

    def keep(self, data: bytes) -> None:
        """Pass on a checkpoint. Raises Stopped if the training must stop."""
        self._send({"checkpoint": True}, data)
        self._plan_checkpoint()
        if self._stop:
            raise Stopped

    def say(self, message: str) -> None:
        """Have the worker print a line about this trial."""
        self._send({"say": message})

    def _plan_checkpoint(self) -> None:
        self._next_checkpoint = time.monotonic() + self._checkpoint_every

    # ---- the line to the worker

    def wait_for(self, *kinds: str) -> Message | None:
        """The next message of one of these kinds; None if the worker is gone. Orders to stop are noted meanwhile."""
        with self._uninterrupted():
            while True:
                message = self._channel.take()
                if message is None:
                    if not self._channel.receive():
                        return None
                elif "stop" in message:
                    self._stop = message["stop"]
                elif not message.keys().isdisjoint(kinds):
                    return message

    def _send(self, message: Message, data: bytes = b"") -> None:
        with self._uninterrupted():
            self._channel.send(message, data)

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Let no signal interrupt this block: a message is sent and received whole."""
        before, self._may_be_interrupted = self._may_be_interrupted, False
        try:
            yield
        finally:
            self._may_be_interrupted = before
        if before and self._must_look:
            self._obey()

    def _obey(self) -> None:
        """Look whether the worker says stop. Raises Stopped if that must happen at once."""
        self._must_look = False
        with self._uninterrupted():
            self._channel.receive_what_is_there()
            self._take_orders()
        self._stop_now()

    def _take_orders(self) -> None:
        while message := self._channel.take():
            self._stop = message.get("stop", self._stop)

    def _stop_now(self) -> None:
        """Raise Stopped if the worker has said so."""
        if self._stop == "now" and self._may_be_interrupted:
            self._may_be_interrupted = False
            raise Stopped

    def listen_to_signals(self) -> None:
        """Only note the signals that stop programs: the worker gets them, too, and decides what is to be done."""
        if signal.getsignal(signal.SIGTERM) != self._on_signal:  # a training that takes one, takes that one
            for number in STOPPING:
                signal.signal(number, self._on_signal)

    def forget_signals(self) -> None:
        """In a process that the training forks, such as a data loader, let signals do what they always do."""
        for number in STOPPING:
            if signal.getsignal(number) == self._on_signal:  # and not a handler of the training's own
                signal.signal(number, signal.SIG_DFL)
        release_signals()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._was_signalled = self._must_look = True
        if self._may_be_interrupted:
            self._obey()


def hold_signals() -> None:
    """Let signals wait while the training forks: a child that is ended at once would only take a note of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def release_signals() -> None:
    """Let them come again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
