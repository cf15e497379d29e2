"""The trainer's program: load the objective once, then train one trial after another for the worker."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from types import FrameType

from foldertune.errors import UserError
from foldertune.text import in_a_line
from foldertune.trainer.channel import Channel, Message
from foldertune.trainer.guardian import STOPPING
from foldertune.trainer.metrics import as_metrics
from foldertune.trainer.objective import Objective, load_objective
from foldertune.trainer.report import Listener, Report, Stopped
from foldertune.trainer.surroundings import Surroundings, flush

LONGEST_TEXT = 2**16  # characters of an error, and of its traceback


def main(descriptor: int, name: str, device: str, gpus: int) -> None:
    """Serve the worker at the other end of this descriptor, until it is gone or says `leave`."""
    sys.argv[1:] = []
    surroundings = Surroundings()
    os.set_inheritable(descriptor, False)  # a program that the training starts must not hold the line open
    line = Line(Channel(descriptor))
    line.listen_to_signals()
    os.register_at_fork(before=hold_signals, after_in_parent=release_signals, after_in_child=line.forget_signals)
    try:
        objective = load_objective(name, device)
    except UserError as error:
        cause = error.__cause__
        line.send({"unable": str(error), "traceback": "".join(traceback.format_exception(cause)) if cause else ""})
        return
    gc.freeze()  # what is loaded stays: no collection need look at it
    answer: Message = {"ready": True}
    while True:
        flush()
        line.send(answer)
        surroundings.restore()  # now, while the worker is busy with the answer
        line.listen_to_signals()
        order = line.wait_for("train", "leave")
        if order is None or "leave" in order:
            break
        answer = Training(line, order["checkpoint_every"], order["save_from"]).train(
            objective, order["train"], device, gpus
        )


class Line:
    """The trainer's end of the line to the worker, for all its trainings and all their threads."""

    def __init__(self, channel: Channel) -> None:
        self.stop = ""  # what the worker said: "save" or "now"
        self.was_signalled = False
        self.may_be_interrupted = False  # may a signal raise Stopped in the main thread just now?
        self.must_look = False  # has a signal come since we looked last?
        self.lock = threading.RLock()
        self.main = threading.get_ident()  # only in this thread do signals raise anything
        self._channel, self._is_copy = channel, False
        self._orders: deque[Message] = deque()

    @property
    def data(self) -> bytes:
        """The bytes that followed the message received last."""
        return self._channel.data

    def send(self, message: Message, data: bytes = b"") -> None:
        """Send a message whole, whatever other threads and signals do."""
        with self.uninterrupted():
            self.put(message, data)

    def put(self, message: Message, data: bytes = b"") -> None:
        """Send a message while nothing can come between: see `uninterrupted`."""
        self._channel.send(message, data)

    def wait_for(self, *kinds: str) -> Message | None:
        """The next message of one of these kinds; None if the worker is gone. Orders to stop are noted meanwhile."""
        with self.uninterrupted():
            while True:
                self._take_orders()
                while self._orders:
                    message = self._orders.popleft()
                    if not message.keys().isdisjoint(kinds):
                        return message
                if not self._channel.receive():
                    return None

    def obey(self) -> None:
        """Look whether the worker says stop. Raises Stopped if that must happen at once."""
        self.must_look = False
        with self.uninterrupted():
            if not self._is_copy:
                self._channel.receive_what_is_there()
                self._take_orders()
        self.obey_orders()

    def begin_to_obey(self) -> None:
        """Let signals interrupt the training from now on. One may have come before, or an order with that to train."""
        self.may_be_interrupted = True
        if self.must_look:
            self.obey()
        else:
            self.obey_orders()

    def obey_orders(self) -> None:
        """Raise Stopped if an order that has come says that this must happen at once."""
        if self.stop != "now":
            return
        if threading.get_ident() != self.main:
            raise Stopped
        if self.may_be_interrupted:
            self.may_be_interrupted = False
            raise Stopped

    def _take_orders(self) -> None:
        while message := self._channel.take():
            if "stop" in message:
                self.stop = message["stop"]
            else:
                if "train" in message:  # an order to stop that came before it was for an earlier training
                    self.stop = ""
                self._orders.append(message)

    def uninterrupted(self) -> Uninterrupted:
        """Let no thread and no signal come between: a message is sent and received whole."""
        return Uninterrupted(self)

    def listen_to_signals(self) -> None:
        """Only note the signals that stop programs: the worker gets them, too, and decides what is to be done."""
        if signal.getsignal(signal.SIGTERM) != self._on_signal:  # a training that takes one, takes that one
            for number in STOPPING:
                signal.signal(number, self._on_signal)

    def forget_signals(self) -> None:
        """In a process that the training forks, such as a data loader, let signals do what they always do.

        It may report, but it does not take the worker's orders away from the trainer.
        """
        for number in STOPPING:
            if signal.getsignal(number) == self._on_signal:  # and not a handler of the training's own
                signal.signal(number, signal.SIG_DFL)
        self.lock, self._is_copy = threading.RLock(), True  # another thread may have held the lock
        release_signals()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.was_signalled = self.must_look = True
        if self.may_be_interrupted:
            self.obey()


class Uninterrupted:
    """A time in which nothing comes between: see `Line.uninterrupted`. A generator would cost several times as much."""

    def __init__(self, line: Line) -> None:
        self._line, self._is_main, self._before = line, threading.get_ident() == line.main, False

    def __enter__(self) -> None:
        if self._is_main:
            self._before, self._line.may_be_interrupted = self._line.may_be_interrupted, False
        self._line.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._line.lock.release()
        if self._is_main:
            self._line.may_be_interrupted = self._before
            if self._before and self._line.must_look and error[0] is None:
                self._line.obey()


class Training(Listener):
    """One training. It passes to the worker what the objective reports, and to the objective that it must stop.

    When it is over, whoever still reports (a thread that was left behind, a report that was kept) gets Stopped.
    """

    def __init__(self, line: Line, checkpoint_every: float, save_from: float | None = None) -> None:
        self._line, self._is_over, self._saves_state = line, False, False
        self._save_from = math.inf if save_from is None else save_from  # the epoch after which a checkpoint is due
        self._checkpoint_every = checkpoint_every or math.inf
        self._plan_checkpoint()

    def train(self, objective: Objective, settings: Message, device: str, gpus: int | None = None) -> Message:
        """Call the objective. Returns the last message about this trial."""
        self._line.was_signalled = False
        try:
            try:
                self._line.begin_to_obey()
                result = objective(settings, Report(self, device, gpus))
            finally:
                self._line.may_be_interrupted = False
            if not isinstance(result, dict):
                raise TypeError(f"the objective must return a dict of metrics, not {result!r:.80}")
            return {"result": as_metrics(result, self.say)}
        except Stopped:
            return {"stopped": True}
        except BaseException as error:  # whatever the code of a person raises ends its attempt, not the worker
            told = {"error": in_a_line(error)[:LONGEST_TEXT], "traceback": traceback.format_exc()[-LONGEST_TEXT:]}
            return {**told, "signalled": self._line.was_signalled}
        finally:
            with self._line.uninterrupted():
                self._is_over = True

    def epoch(self, record: Message) -> None:
        """Pass on the metrics of an epoch. Raises Stopped."""
        self._send({"report": record})
        if isinstance(epoch := record["epoch"], int | float) and epoch >= self._save_from:
            self._next_checkpoint = -math.inf
        self._line.obey()

    def checkpoints(self) -> Iterator[tuple[str, bytes]]:
        """Path and contents of the checkpoints of this attempt and earlier ones, the latest first."""
        self._saves_state = True
        while True:
            with self._line.uninterrupted():
                self._send({"resume": True})
                answer, data = self._line.wait_for("checkpoint"), self._line.data
            if answer is None or answer["checkpoint"] is None:
                return
            yield answer["checkpoint"], data

    def resumed(self, path: str) -> None:
        """Pass on that the training goes on from this checkpoint."""
        self._send({"resumed": path})

    def checkpoint_is_due(self) -> bool:
        """Is it time to save the state, or must the training stop? Raises Stopped if even that takes too long."""
        if not self._saves_state or self._is_over:
            self._send({"saves_state": True})
            self._saves_state = True
        self._line.obey()
        return bool(self._line.stop) or time.monotonic() >= self._next_checkpoint

    def keep(self, data: bytes) -> None:
        """Pass on a checkpoint. Raises Stopped if the training must stop."""
        self._send({"checkpoint": True}, data)
        self._plan_checkpoint()
        if self._line.stop:
            raise Stopped

    def say(self, message: str) -> None:
        """Have the worker print a line about this trial."""
        self._send({"say": message})

    def _plan_checkpoint(self) -> None:
        self._next_checkpoint = time.monotonic() + self._checkpoint_every

    def _send(self, message: Message, data: bytes = b"") -> None:
        with self._line.uninterrupted():
            if self._is_over:
                raise Stopped
            self._line.put(message, data)


def hold_signals() -> None:
    """Let signals wait while the training forks: a child that is ended at once would only take a note of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def release_signals() -> None:
    """Let them come again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
