"""One attempt at a trial: what the worker writes down of what the training says, shows and saves."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from foldertune.nesting import nest
from foldertune.protocol import SECONDS, Claim, Heartbeat, LeaseLost, Record, Trial, utc_now
from foldertune.running.process import PATIENCE
from foldertune.running.reports import Reports
from foldertune.running.signals import LONG_SETTLE, SETTLE, StopSignals
from foldertune.running.trainer import LAST_WORDS, ROUND, Saving, Trainer, show
from foldertune.text import clipped
from foldertune.trainer.channel import Message
from foldertune.trainer.report import Stopped

MAX_OUTPUT = 2**20  # bytes of what a training prints that are kept; of more, the beginning and the end
END_OF_OUTPUT = 2**14
OUTPUT_EVERY = 1.0  # seconds between two writes of it
LONGEST_TEXT = 2**14  # characters of an error, and of its traceback
LOOK_EVERY = 1.0  # seconds between two looks whether the master asks us to stop
HELD_UP = 1.0  # seconds to write down what a training says: the folder is in trouble, or slow


class Attempt:
    """A claim in training.

    Args:
        metrics: those of the study, which a result must have.
        study: its definition: only checkpoints of the same study are resumed; it says if trials may be stopped early.
        patiently: performs an action, and repeats it while the filesystem is in trouble.
        say: called with each line for the worker's output.

    Attributes:
        saves_state: does this training save checkpoints?
    """

    def __init__(
        self,
        claim: Claim,
        trial: Trial,
        metrics: Sequence[str],
        study: Record,
        trainer: Trainer,
        patiently: Callable[[Callable[[], Any]], Any],
        say: Callable[[str], None],
    ) -> None:
        self.claim, self.trial, self.saves_state = claim, trial, trainer.saves_state
        self.output = Output(claim, say)
        self._metrics, self._study, self._trainer, self._say = metrics, study, trainer, say
        self._patiently = patiently
        self._reports = Reports(claim, patiently, say)
        self._checkpoints = claim.load_checkpoints(trial.settings, study, trial.parent)
        self._latest: Record = {}  # the last value of each metric that was reported
        self._next_look = time.monotonic() + LOOK_EVERY if study.get("stopping") else math.inf

    def begin(self, checkpoint_every: float) -> None:
        """Have the trainer begin. Raises BrokenFile if it needs a directory, and something else stands there."""
        if self._trainer.wants_out:
            self._patiently(self.claim.make_out)
        saving = Saving(checkpoint_every, end_of(self.trial.settings, self._study))
        self._trainer.begin(self.claim.name, nest(self.trial.settings), saving, self.claim.out)

    def sign(self, owner: Record) -> None:
        """Write down who trains. Raises LeaseLost."""
        if self._trainer.has_more_lines():
            self.claim.append_with_next(owner)
        else:
            self._patiently(lambda: self.claim.append(owner))

    def follow(self, signals: StopSignals, heartbeat: Heartbeat, grace: float) -> Record:
        """Follow the training to its end. Returns the trial's last line. Raises Stopped, LeaseLost.

        Args:
            grace: seconds that it has to save its state when a signal comes.
        """
        trainer = self._trainer
        overtime, end_of_grace = time.monotonic() + (self.trial.timeout or math.inf), math.inf
        while True:
            if signals.number and end_of_grace == math.inf:
                end_of_grace = time.monotonic() + grace
                trainer.stop("save" if self.saves_state else "now", grace)
            message = trainer.next(min(overtime, end_of_grace, time.monotonic() + ROUND))
            if heartbeat.lost.is_set():
                trainer.stop("now", min(grace, PATIENCE))
                raise LeaseLost(self.claim.path)
            if message is None or "report" in message:  # one that reports without end must end in time, too
                if signals.impatient or time.monotonic() >= end_of_grace:
                    trainer.end(0)
                    raise Stopped
                if time.monotonic() >= overtime:
                    trainer.stop("now", min(grace, PATIENCE))
                    return self.overtime()
            begun = time.monotonic()
            if message is None:
                self.output.write()
            elif ("stopped" in message or "error" in message) and is_effect_of_signal(message, signals):
                raise Stopped
            elif last_word := self.receive(message):
                return last_word
            elif "report" in message and (why := self.why_stop()):
                return self.stop(why, signals, heartbeat, grace)
            if (took := time.monotonic() - begun) > HELD_UP:  # by the folder: that is not the training's time
                overtime += took

    def why_stop(self) -> str | None:
        """Why the master asks us to end the training; None if it does not, or if there would be no result."""
        if time.monotonic() < self._next_look or not all(self._has_value_of(metric) for metric in self._metrics):
            return None
        self._next_look = time.monotonic() + LOOK_EVERY
        return self.claim.why_stop()

    def _has_value_of(self, metric: str) -> bool:
        return metric == SECONDS or isinstance(self._latest.get(metric), int | float)

    def stop(self, why: str, signals: StopSignals, heartbeat: Heartbeat, grace: float) -> Record:
        """End the training early. Returns the trial's last line: its result is what it has reported. Raises LeaseLost.

        At first it has a moment to come to its next report: so its trainer can be used again. Then it is interrupted.
        One that comes to its own end meanwhile has its own result.
        """
        self._say(f"is stopped early: {why}")
        for how, seconds in (("report", PATIENCE), ("now", grace)):
            self._trainer.stop(how, seconds)
            if last := self._last_message(how, seconds, signals, heartbeat):
                break
        if "result" in last:
            return self._judge(last["result"])
        if how == "now" or "stopped" not in last:
            self._trainer.end(0)
        result = {name: value for name, value in self._latest.items() if name != "epoch"}
        return {"result": result, "stopped": clipped(why, LONGEST_TEXT), "time": utc_now()}

    def _last_message(self, how: str, seconds: float, signals: StopSignals, heartbeat: Heartbeat) -> Message:
        """The last message of a training that was told to stop; empty if it does not come in time. Raises LeaseLost."""
        until, last = time.monotonic() + seconds, Message()
        while not last and time.monotonic() < until and not (signals.number if how == "report" else signals.impatient):
            message = self._trainer.next(min(until, time.monotonic() + ROUND))
            if heartbeat.lost.is_set():
                raise LeaseLost(self.claim.path)
            if message is None:
                self.output.write()
            elif not message.keys().isdisjoint(LAST_WORDS):
                last = message
            else:
                self.receive(message)
        self._reports.close()
        return last

    def receive(self, message: Message) -> Record | None:
        """Do what a message asks for. Returns the trial's last line, if this is the last message. Raises LeaseLost."""
        if "report" in message:
            self._reports.add(message["report"], self._trainer.has_more_lines())
            if self._next_look < math.inf:
                self._latest |= {name: value for name, value in message["report"].items() if value is not None}
        elif "resume" in message:
            self.saves_state = True
            path, data = next(self._checkpoints, (None, b""))
            self._trainer.send({"checkpoint": path}, data)
        elif "saves_state" in message:
            self.saves_state = True
        elif "checkpoint" in message:
            self._keep(self._trainer.data)
        elif "resumed" in message:
            self._say(f"resumes from {message['resumed']}")
            name = os.path.basename(message["resumed"])
            self._patiently(lambda: self.claim.append({"resumed": name, "time": utc_now()}))
        elif "say" in message:
            self._say(message["say"])
        elif "error" in message:
            self._reports.close()
            message.pop("signalled", None)
            return {**{key: clipped(text, LONGEST_TEXT) for key, text in message.items()}, "time": utc_now()}
        elif "result" in message:
            self._reports.close()
            return self._judge(message["result"])
        elif "stopped" in message:
            return {"error": "the training stopped itself", "time": utc_now()}
        return None

    def overtime(self) -> Record:
        """The trial's last line after its time is up. Raises LeaseLost."""
        self._reports.close()
        return {"error": f"took longer than --trial-timeout {self.trial.timeout:g} s", "time": utc_now()}

    def _judge(self, result: Record) -> Record:
        missing = [metric for metric in self._metrics if metric not in result and metric != SECONDS]
        if not missing:
            return {"result": result, "time": utc_now()}
        names = ", ".join(list(result)[:20]) or "nothing"
        what = "the study's metric" if len(self._metrics) == 1 else "one of the study's metrics"
        lack = f"the result lacks {missing[0]!r}, {what}; it has {names}{self._trainer.advice}"
        return {"error": lack, "time": utc_now()}

    def _keep(self, data: bytes) -> None:
        try:
            self.claim.save_checkpoint(self.trial.settings, data, self._study)
        except OSError as error:  # a checkpoint is not a result: train on without it
            self._say(f"no checkpoint: {error}")


def end_of(settings: Record, study: Record) -> float | None:
    """The epoch after which a later trial may go on with this training; None if none ever does.

    If the fidelity is not a number of epochs, that may be after any report.
    """
    fidelity = study.get("fidelity") or {}
    setting, highest = str(fidelity.get("setting")), fidelity.get("highest")
    value = settings.get(setting)
    if not isinstance(value, int | float) or not isinstance(highest, int | float) or value >= highest:
        return None
    return value if setting.endswith("epochs") else 0


def is_effect_of_signal(failure: Message, signals: StopSignals) -> bool:
    """Did a signal end the training? One for the whole group may have reached it before us."""
    return signals.wait(LONG_SETTLE if failure.get("signalled") else SETTLE)


class Output:
    """Shows what a training prints, and keeps it in the folder, up to a limit."""

    def __init__(self, claim: Claim, say: Callable[[str], None]) -> None:
        self._claim, self._say, self._told = claim, say, False
        self._unwritten, self._room, self._end = b"", MAX_OUTPUT - END_OF_OUTPUT, b""
        self._left_out = 0
        self._next_write = 0.0

    def __call__(self, data: bytes) -> None:
        """Show and keep a piece of output, up to a limit: what we print may go into a file of the folder, too."""
        fitting, rest = data[: self._room], data[self._room :]
        show(fitting)
        if rest and self._room:
            self._say(f"prints more than {MAX_OUTPUT:,} bytes; of the rest, the end is kept in output/")
        self._room -= len(fitting)
        self._unwritten += fitting
        self._left_out += max(0, len(self._end) + len(rest) - END_OF_OUTPUT)
        self._end = (self._end + rest)[-END_OF_OUTPUT:]
        if time.monotonic() >= self._next_write:
            self.write()

    def close(self) -> None:
        """Write what is not written yet."""
        gap = f"\n… {self._left_out:,} bytes are left out …\n".encode() if self._left_out else b""
        self._unwritten += gap + self._end
        self._end, self._left_out = b"", 0
        self.write()

    def write(self) -> None:
        """Write it to the folder. If that fails, it is gone: output is no result."""
        if self._unwritten:
            try:
                self._claim.keep_output(self._unwritten)
            except OSError as error:
                if not self._told:
                    self._told = True
                    self._say(f"what it prints is not kept: {error}")
            self._unwritten, self._next_write = b"", time.monotonic() + OUTPUT_EVERY
