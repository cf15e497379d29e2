"""The worker: claim a trial, train it, hand in its result, repeat."""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from foldertune.errors import UserError
from foldertune.protocol import (
    SHORTEST_LEASE,
    BrokenFile,
    Claim,
    Folder,
    Heartbeat,
    LeaseLost,
    NotOurs,
    Record,
    Trial,
    TrialName,
    describe_owner,
    lack_of_rights,
    new_owner,
    printable,
    utc_now,
)
from foldertune.running.attempt import Attempt
from foldertune.running.doubts import Doubts
from foldertune.running.process import PATIENCE
from foldertune.running.remote import Remote
from foldertune.running.saying import say as say
from foldertune.running.shared_gpu import SharedGPU, give_back
from foldertune.running.signals import StopSignals
from foldertune.running.time_left import TimeLeft
from foldertune.running.trainer import Trainer, check_objective
from foldertune.running.waiting import Waits, lack_of_study
from foldertune.text import counted, settings_in_a_line
from foldertune.trainer.report import Stopped
from foldertune.trouble import Trouble

SAY_AFTER, SAY_AGAIN = 0.5, 60.0  # seconds without work; without a study we say it again, then after twice the time
T = TypeVar("T")


class Worker:
    """One worker: claim, train, finish, repeat.

    Args:
        name: the objective's name, which must be the one in the study.
        trainer: the process that trains.
        checkpoint_every: seconds between two checkpoints of a training; 0: only when stopped.
        idle_timeout: seconds without work after which the worker ends; None: when the study is complete.
        start_timeout: seconds to wait for a study in a folder that never had one: its path is probably wrong.
        grace: seconds that a training has to save its state when told to stop.
        time_left: seconds until this machine is taken away; None: it is ours.
    """

    def __init__(
        self,
        folder: Folder,
        name: str,
        trainer: Trainer,
        signals: StopSignals,
        checkpoint_every: float = 0.0,
        idle_timeout: float | None = None,
        grace: float = 20.0,
        start_timeout: float = math.inf,
        time_left: float | None = None,
    ) -> None:
        self.folder, self.objective_name = folder, name
        self.trainer = trainer
        self.signals = signals
        self.checkpoint_every = checkpoint_every
        self.idle_timeout, self.start_timeout = idle_timeout, start_timeout
        self.grace = grace
        self.time_left, self.is_out_of_time = TimeLeft(time_left, grace), False  # the latter: has it ended for that?
        self.owner = new_owner()
        self.metrics: list[str] = []
        self.study: Record = {}  # its definition
        self._remote = Remote(folder, signals, self.say)
        self._trouble = Trouble(self.say, functools.partial(lack_of_rights, folder.path))
        self._candidates: Iterator[TrialName] = iter(())
        self._trained: tuple[Claim, Record, float] | None = None  # not handed in yet: claim, last word and seconds
        self._results, self._doubts, self._gpu = 0, Doubts(folder, self.owner), SharedGPU(trainer)
        self.waits_since, self.why_ended = math.inf, ""  # for people

    def run(self, heartbeat: Heartbeat) -> int:
        """Claim, train, finish, repeat. Returns the exit code."""
        heartbeat.start()
        self.time_left.set_alarm()
        gc.freeze()  # what is loaded stays: no collection need look at it
        try:
            self._remote.begin(heartbeat)
            with contextlib.suppress(OSError):  # for another objective, say so before this one is loaded
                self.know_study()
            self.prepare()
            while claim := self.wait_for_claim():
                self.train(claim, heartbeat)
                self.prepare()
        except Stopped:
            pass
        finally:
            with contextlib.suppress(OSError):
                self._finish()
            self.trainer.end()
            heartbeat.look = lambda: None  # who has ended is asked for nothing
        self.is_out_of_time |= self.signals.is_time_up
        nothing = "too little time is left" if self.is_out_of_time else "nothing more to do"
        self.why_ended = self._remote.last_word or nothing
        self.say(f"{self.why_ended}; {counted(self._results, 'trial')} trained")
        if self.is_out_of_time and not self._results:
            self.time_left.check()
        return self._remote.exit_code

    def prepare(self) -> None:
        """Have a trainer that is ready. Raises UserError if this machine can't train, Stopped when a signal comes."""
        if not self.trainer.is_ready():
            self.hand_in()  # to load the objective may take long
            self.trainer.prepare()

    # ---- claim

    def wait_for_claim(self) -> Claim | None:
        """The next trial, ours alone; None when the study is complete or we have been idle for too long.

        Raises UserError if there is no study, and none comes.
        """
        lack = functools.partial(lack_of_study, self.folder.path)
        self.waits_since, waits, say_at = time.monotonic(), Waits(self.folder), SAY_AFTER
        while True:
            if self.signals.number:
                raise Stopped
            if self.time_left.is_short():
                self.is_out_of_time = True
                return None
            look = time.monotonic()
            if claim := self.patiently(self.try_to_claim):
                self.waits_since = math.inf
                return claim
            self.waits_since += time.monotonic() - look  # while the folder is in trouble we are not without work
            if self.folder.is_complete or self._remote.ends():
                return None
            if self._remote.is_halted():
                self.waits_since = time.monotonic()
            idle = time.monotonic() - self.waits_since
            if self.idle_timeout is not None and idle > self.idle_timeout:
                return None
            if idle > say_at:
                what = f": {self.patiently(lack)}" if not self.metrics else ""
                self.say(f"waiting for work in {self.folder.path}{what}")
                say_at = max(2 * say_at, SAY_AGAIN) if what else math.inf
            if not self.metrics and idle > self.start_timeout:
                raise UserError(
                    f"--logs {self.folder.path}: {self.patiently(lack)} after {idle:.0f} s; is the path right?"
                )
            waits.wait(self.pause)

    def try_to_claim(self) -> Claim | None:
        """Claim one of the names from the last listing; when they are used up, list the folder again."""
        if (not self.metrics and not self.know_study()) or self._doubts.hold_back():
            return None
        try:
            claim = self.folder.claim(self.owner, self._candidates)
            if claim is None:
                self.hand_in()  # a listing must not show us a trial of our own
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
        check_objective(self.folder.path, study, self.objective_name)
        self.trainer.check(study)
        metric = study.get("metric")
        self.study, self.metrics = study, [str(name) for name in (metric if isinstance(metric, list) else [metric])]
        return True

    # ---- train

    def train(self, claim: Claim, heartbeat: Heartbeat) -> None:
        """Train one trial, from claim to last word. A result is handed in when the next training has begun."""
        start = time.monotonic()
        last_word: Record | None = None
        try:
            try:
                trial = self.patiently(claim.read)
            except NotOurs as error:
                self.say(f"{error}; leaving such trials to others")
                return self.patiently(lambda: claim.give_back("another user's file"))
            except BrokenFile as error:
                self.say(str(error))
                return self.patiently(claim.hand_in)  # as it is: the master judges it and tries again
            heartbeat.hold(claim, trial.lease or SHORTEST_LEASE)  # a person queued it: the master's lease may be short
            last_word = self.evaluate(claim, trial, heartbeat)
            if self._gpu.has_failed(last_word):
                return self.say(f"trial {claim.name.label}: {self.patiently(lambda: give_back(claim, last_word))}")
            if self.patiently(lambda: self._doubts.put_down(claim, last_word, self.say)):
                return None
            self.patiently(lambda: claim.say_last_word(last_word))
        except LeaseLost:
            return self.say_dropped(claim)
        except Stopped:
            self.put_down(claim, last_word, self._remote.why)
            raise
        except UserError as error:  # this machine can't train any more; others can
            self.put_down(claim, last_word, str(error))
            raise
        finally:
            heartbeat.release()  # who finds a last word in the file counts it, also when the lease has expired
        self.hand_in()
        self._trained = claim, last_word, time.monotonic() - start
        if "result" not in last_word:  # the next training can't begin yet
            self.hand_in()

    def evaluate(self, claim: Claim, trial: Trial, heartbeat: Heartbeat) -> Record:
        """Have a trial trained. Returns its last line: the result, or the error. Raises Stopped, LeaseLost.

        A trainer is used again only after a result: whatever else has happened may have left something behind.
        """

        def say(message: str) -> None:
            self.say(f"trial {claim.name.label}: {message}")

        attempt = Attempt(claim, trial, self.metrics, self.study, self.trainer, self.patiently, say)
        self.trainer.on_output = attempt.output
        start, last_word = time.monotonic(), Record()
        try:
            self._gpu.place(trial, self.hand_in)
            attempt.begin(self.checkpoint_every)
            self.hand_in(flush=False)
            attempt.sign(describe_owner(self.owner))  # the training has begun meanwhile
            say(settings_in_a_line(trial.settings))
            last_word = attempt.follow(self.signals, heartbeat, self.grace)
        except BrokenFile as error:  # something else stands where its files go
            self.patiently(lambda: claim.append(describe_owner(self.owner)))
            last_word = {"error": str(error), "time": utc_now()}
        finally:
            took = time.monotonic() - start
            self.time_left.learn(took, saves_state=attempt.saves_state, is_over=bool(last_word))
            if "result" not in last_word:
                self.trainer.end(min(self.grace, PATIENCE))
            attempt.output.close()
        return last_word

    def hand_in(self, *, flush: bool = True) -> None:
        """Hand in the trial that was trained last, unless that is done. Raises Stopped."""
        if self._trained:
            self.patiently(functools.partial(self._finish, flush))

    def _finish(self, flush: bool = True) -> None:
        if self._trained is None:
            return
        claim, last_word, seconds = self._trained
        outcome = "result" in last_word
        values = [f"{name} {value}," for name, value in last_word.get("result", {}).items() if name in self.metrics]
        what = " ".join(values) if outcome else "failed after"
        why = "" if outcome and "stopped" not in last_word else f": {last_word.get('error', 'stopped early')}"
        try:
            claim.finish(last_word)
            self.say(f"trial {claim.name.label}: {what} {seconds:.1f} s{why}", flush=flush)
            self._results += outcome
        except LeaseLost:
            self.say_dropped(claim)
        self._trained = None

    def put_down(self, claim: Claim, last_word: Record | None, reason: str) -> None:
        """Stop with a trial in hand: hand in its result if there is one; if not, give the trial back."""
        with contextlib.suppress(LeaseLost, OSError):  # if it fails, the master will find this worker gone
            if last_word is not None:
                claim.finish(last_word)
            else:
                claim.give_back(reason)
                self.say(f"trial {claim.name.label}: given back")

    def patiently(self, action: Callable[[], T]) -> T:
        """Perform an action; while the filesystem is in trouble, say so once and retry. Raises Stopped, LeaseLost."""
        return self._trouble.patiently(action, self.pause)

    def pause(self, seconds: float) -> None:
        """Wait. Raises Stopped when a signal comes."""
        if self.signals.wait(seconds):
            raise Stopped

    def say_dropped(self, claim: Claim) -> None:
        """Say that a trial is no longer ours."""
        self.say(f"trial {claim.name.label}: {claim.path} is no longer ours (its lease expired?); let go")

    def say(self, message: str, *, flush: bool = True) -> None:
        """Print a line that begins with this worker's name."""
        say(f"{self.owner}: {printable(message)}", flush=flush)
