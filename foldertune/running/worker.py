"""The worker: claim a trial, train it, hand in its result, repeat."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

from foldertune.errors import UserError
from foldertune.protocol import (
    SIGNS_PER_LEASE,
    BrokenFile,
    Claim,
    Folder,
    Heartbeat,
    LeaseLost,
    Record,
    Trial,
    TrialName,
    describe_owner,
    new_owner,
    printable,
    utc_now,
)
from foldertune.running.attempt import Attempt, Stopped, TimedOut
from foldertune.running.objective import Objective
from foldertune.running.report import Report, as_number
from foldertune.running.watchdog import Watchdog
from foldertune.shipped import command
from foldertune.text import counted, in_a_line, settings_in_a_line
from foldertune.trouble import Trouble

FIRST_WAIT, LONGEST_WAIT = 0.02, 1.0  # seconds between two looks for work
FIRST_RETRY, LONGEST_RETRY = 0.1, 5.0  # seconds between two tries while the filesystem is in trouble
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
T = TypeVar("T")


class Worker:
    """One worker: claim, train, finish, repeat.

    Args:
        name: the objective's name, which must be the one in the study.
        checkpoint_every: seconds between two checkpoints of a training; 0: only when stopped.
        idle_timeout: seconds without work after which the worker ends; None: when the study is complete.
        grace: seconds that a training has to save its state when told to stop.
    """

    def __init__(
        self,
        folder: Folder,
        name: str,
        objective: Objective,
        device: str,
        checkpoint_every: float = 0.0,
        idle_timeout: float | None = None,
        grace: float = 20.0,
    ) -> None:
        self.folder = folder
        self.objective_name = name
        self.objective = objective
        self.device = device
        self.checkpoint_every = checkpoint_every
        self.idle_timeout = idle_timeout
        self.owner = new_owner()
        self.metric: str | None = None
        self.signal = 0  # the signal that asked us to stop
        self.watchdog = Watchdog(STOPPING, grace, self.bail_out)
        self._attempt: Attempt | None = None  # in training
        self._interruptible = False
        self._trouble = Trouble(self.say)
        self._candidates: Iterator[TrialName] = iter(())

    def run(self, heartbeat: Heartbeat) -> int:
        """Claim, train, finish, repeat. Returns the exit code."""
        heartbeat.start()
        self.watchdog.start()
        trained = 0
        try:
            while claim := self.wait_for_claim():
                trained += self.train(claim, heartbeat)
        except Stopped:
            pass
        why = f"stopped by {signal.Signals(self.signal).name}" if self.signal else "nothing more to do"
        self.say(f"{why}; {counted(trained, 'trial')} trained")
        return 128 + self.signal if self.signal else 0

    # ---- claim

    def wait_for_claim(self) -> Claim | None:
        """The next trial, ours alone; None when the study is complete or we have been idle for too long."""
        idle_since, wait, told = time.monotonic(), FIRST_WAIT, False
        while True:
            if self.signal:
                raise Stopped
            if claim := self.patiently(self.try_to_claim):
                return claim
            if self.patiently(self.folder.is_complete):
                return None
            if self.idle_timeout is not None and time.monotonic() - idle_since > self.idle_timeout:
                return None
            if wait > LONGEST_WAIT / 2 and not told:
                missing = self.patiently(lambda: not self.folder.path.is_dir())
                hint = " (there is no such directory yet: is the path right?)" if missing else ""
                self.say(f"waiting for work in {self.folder.path}{hint}")
                told = True
            self.sleep(wait * random.uniform(0.5, 1.5))  # not all workers at the same moment
            wait = min(2 * wait, LONGEST_WAIT)

    def try_to_claim(self) -> Claim | None:
        """Claim one of the names from the last listing; when they are used up, list the folder again."""
        if self.metric is None and not self.know_study():
            return None
        try:
            claim = self.folder.claim(self.owner, self._candidates)
            if claim is None:
                self._candidates = self.folder.candidates(self.owner)
                claim = self.folder.claim(self.owner, self._candidates)
        except OSError:
            self._candidates = iter(())  # the claim may have succeeded anyway: a new listing will show it
            raise
        return claim

    def know_study(self) -> bool:
        """Read study.json. False if it is not there yet. Raises UserError if the study has another objective."""
        study = self.folder.read_study()
        if study is None:
            return False
        theirs = study.get("objective", self.objective_name)
        if theirs != self.objective_name:
            raise UserError(
                f"{self.folder.path}: this study is for the objective '{theirs}', not '{self.objective_name}'; "
                f"if you trust that code, start the worker with: "
                f"{command('worker', '--logs', self.folder.path, '--objective', theirs)}"
            )
        self.metric = str(study.get("metric"))
        return True

    # ---- train

    def train(self, claim: Claim, heartbeat: Heartbeat) -> bool:
        """Train one trial, from claim to hand-in. True if it was handed in with a result."""
        label, start = claim.name.label, time.monotonic()
        last_word: Record | None = None
        try:
            try:
                trial = self.patiently(claim.read)
            except BrokenFile as error:
                self.say(str(error))
                self.patiently(claim.hand_in)  # as it is: the master judges it and tries again
                return False
            heartbeat.hold(claim, trial.lease or SIGNS_PER_LEASE)  # lease unknown: a heartbeat every second
            self.patiently(lambda: claim.append(describe_owner(self.owner)))
            self.say(f"trial {label}: {settings_in_a_line(trial.settings)}")
            last_word = self.evaluate(self.begin(claim, trial, heartbeat))
            self.patiently(lambda: claim.finish(last_word))
        except LeaseLost:
            self.say(f"trial {label}: {claim.path} is no longer ours (its lease expired?); dropped, nothing written")
            return False
        except Stopped:
            self.put_down(claim, last_word)
            raise
        finally:
            heartbeat.release()
        outcome = "result" in last_word
        what = f"{self.metric} {last_word['result'].get(self.metric)}," if outcome else "failed after"
        why = "" if outcome else f": {last_word['error']}"
        self.say(f"trial {label}: {what} {time.monotonic() - start:.1f} s{why}")
        return outcome

    def begin(self, claim: Claim, trial: Trial, heartbeat: Heartbeat) -> Attempt:
        """The attempt through which the training reports and saves its state."""
        return Attempt(
            claim, trial, self.checkpoint_every, self.patiently, self.say,
            is_lost=heartbeat.lost.is_set, is_stopping=lambda: self.signal != 0,
        )  # fmt: skip

    def evaluate(self, attempt: Attempt) -> Record:
        """Run the objective. Returns the last line of the trial's file: the result, or the error."""
        trial, self._attempt = attempt.trial, attempt
        try:
            with self.interruptible():
                self.watchdog.allow(trial.timeout)
                result = self.objective(dict(trial.settings), Report(attempt, self.device))
            if not isinstance(result, dict):
                raise TypeError(f"the objective must return a dict of metrics, not {result!r:.80}")
            if self.metric not in result:
                raise ValueError(f"the objective's result lacks the study's metric {self.metric!r}: {list(result)}")
            return {"result": {key: as_number(value) for key, value in result.items()}, "time": utc_now()}
        except LeaseLost:
            raise
        except TimedOut:
            return overtime(trial)
        except (Exception, SystemExit) as error:
            return {"error": in_a_line(error), "traceback": traceback.format_exc(), "time": utc_now()}
        finally:
            self._attempt = None
            self.watchdog.allow(None)

    def put_down(self, claim: Claim, last_word: Record | None) -> None:
        """Stop with a trial in hand: hand in its result if there is one; if not, give the trial back."""
        with contextlib.suppress(LeaseLost, OSError):  # if it fails, the master will find this worker gone
            if last_word is not None:
                claim.finish(last_word)
            else:
                claim.give_back(signal.Signals(self.signal).name)
                self.say(f"trial {claim.name.label}: given back")

    def patiently(self, action: Callable[[], T]) -> T:
        """Perform an action; while the filesystem is in trouble, say so once and retry. Raises Stopped, LeaseLost."""
        wait = FIRST_RETRY
        while True:
            try:
                value = action()
            except OSError as error:
                self._trouble.is_there(error)
            else:
                self._trouble.is_over()
                return value
            self.sleep(wait)
            wait = min(2 * wait, LONGEST_RETRY)

    # ---- stop

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Stopped when a signal comes."""
        with self.interruptible():
            time.sleep(seconds)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let signals interrupt this block: training or waiting, but never two steps of the protocol."""
        before, self._interruptible = self._interruptible, True
        try:
            if self.signal:
                raise Stopped
            yield
        finally:
            self._interruptible = before

    def listen_to_signals(self) -> None:
        """Handle the signals in STOPPING, and the watchdog's, from now on. Main thread only."""
        for number in STOPPING:
            signal.signal(number, self.on_signal)
        signal.signal(signal.SIGALRM, self.on_alarm)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Stop as soon as it is safe; at a second signal, stop at once."""
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number
        if not (self._attempt and self._attempt.saves_state):  # a training that saves its state stops after doing so
            self._interrupt(Stopped)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """End the training or the wait: the watchdog says that time is up."""
        self._interrupt(Stopped if self.signal else TimedOut)

    def _interrupt(self, reason: type[BaseException]) -> None:
        if self._interruptible:
            self._interruptible = False
            raise reason

    def bail_out(self, number: int) -> None:
        """Put down the trial of a main thread that is stuck for good. Then end the process, or start it anew."""
        if attempt := self._attempt:
            with contextlib.suppress(LeaseLost, OSError):
                if number:
                    attempt.claim.give_back(signal.Signals(number).name)
                else:
                    attempt.claim.finish(overtime(attempt.trial))
        if number:
            os._exit(128 + number)
        os.closerange(3, 65536)  # including the device's files
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def say(self, message: str) -> None:
        """Print a line that begins with this worker's name."""
        say(f"{self.owner}: {printable(message)}")


def say(message: str) -> None:
    """Print a line with the time of day."""
    with contextlib.suppress(OSError):  # the output may be on the disk that is full
        print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def overtime(trial: Trial) -> Record:
    """The last line of an attempt that took too long."""
    return {"error": f"took longer than --trial-timeout {trial.timeout:g} s", "time": utc_now()}
