#!/usr/bin/env python3
"""Take trials from a shared folder, train them, hand in the results.

    python worker.py                          the folder logs/
    python worker.py --logs /shared/me/lr     on any machine that mounts it
    python worker.py --device all             one on each GPU, or on each core
    python worker.py --objective mine:train   your own training code, mine.py

A worker needs no master to be there: without work it waits, and it ends when
the study is complete. Ctrl-C, SIGTERM or SIGUSR1 (Slurm's warning) saves the
trial in hand and gives it to the others, who go on where it was.
`--objective` names a function `train(settings, report)`, which calls
`report(epoch=…, …)` after every epoch and returns a dict of metrics; README.md
has an example of ten lines.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from foldertune.command_line import Trouble, add_checkpoint_every, add_logs, new_parser
from foldertune.launch.local import LocalWorkers
from foldertune.launch.machine import choose_devices, describe_devices, mps_is_running
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
from foldertune.running.watchdog import Watchdog
from foldertune.shipped import DEFAULT_OBJECTIVE

FIRST_WAIT, LONGEST_WAIT = 0.02, 1.0  # seconds between two looks for work
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
T = TypeVar("T")
Objective = Callable[[Record, "Report"], Record]


class UsageError(Exception):
    """What the user asked for can't be done. The message says what to do instead."""


class Stopped(BaseException):
    """A signal asks this worker to stop; no objective's `except Exception` swallows it."""


class TimedOut(BaseException):
    """The attempt took longer than the study allows."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    group = parser.add_argument_group("what to work on")
    add_logs(group)
    group.add_argument(
        "--objective", default=DEFAULT_OBJECTIVE, metavar="MODULE:FUNCTION",
        help=f"the training code (default: {DEFAULT_OBJECTIVE}); no file in the folder can choose another",
    )  # fmt: skip
    group.add_argument(
        "--idle-timeout", type=float, default=None, metavar="SECONDS",
        help="end after this long without work (default: wait until the study is complete)",
    )  # fmt: skip
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda or cuda:1, for the objective; all: a worker on each GPU, without a GPU on each core "
        "(default: auto, the GPU if there is one)",
    )
    group.add_argument(
        "--trials-per-gpu", type=_number_or_auto, default=1, metavar="N",
        help="so many workers on a GPU, each a process with its share of the memory; auto: as many as memory and "
        "cores allow (default: 1)",
    )  # fmt: skip
    group.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of this worker (default: 1)")
    add_checkpoint_every(group)
    group.add_argument(
        "--grace", type=float, default=20.0, metavar="SECONDS",
        help="for a training to save its state when told to stop (default: 20; Slurm kills after 30)",
    )  # fmt: skip
    parser.add_argument("--parent", type=int, default=None, help=argparse.SUPPRESS)  # end with this process
    return parser.parse_args()


def main() -> int:
    """Work until there is nothing left to do. Exit code 0; 2 for bad usage; 128 + the signal that stopped it."""
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names come from files
    try:
        check(arguments)
        if arguments.device == "all" or arguments.trials_per_gpu != 1:
            return supervise(arguments)
        objective = prepare(arguments)
        worker = Worker(
            Folder(arguments.logs),
            arguments.objective,
            objective,
            arguments.device,
            arguments.checkpoint_every,
            arguments.idle_timeout,
            arguments.grace,
        )
        for number in STOPPING:
            signal.signal(number, worker.on_signal)
        signal.signal(signal.SIGALRM, worker.on_alarm)
        return worker.run(Heartbeat(arguments.parent))
    except (UsageError, BrokenFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def check(arguments: argparse.Namespace) -> None:
    """Raises UsageError for options that make no sense."""
    for option in ("threads", "trials_per_gpu"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UsageError(f"--{option.replace('_', '-')}: must be at least 1")
    if arguments.trials_per_gpu != 1 and arguments.device not in ("auto", "all") and "cuda" not in arguments.device:
        raise UsageError(f"--trials-per-gpu: '{arguments.device}' is no GPU; use --device all, auto, cuda or cuda:1")
    if arguments.idle_timeout is not None and not arguments.idle_timeout >= 0:
        raise UsageError("--idle-timeout: must be a number of seconds, 0 or more")
    for option in ("checkpoint_every", "grace"):
        if not 0 <= getattr(arguments, option) < math.inf:
            raise UsageError(f"--{option.replace('_', '-')}: must be a number of seconds, 0 or more")
    if arguments.logs.exists() and not arguments.logs.is_dir():
        raise UsageError(f"--logs {arguments.logs}: is not a directory")


def supervise(arguments: argparse.Namespace) -> int:
    """Be several workers, each a process of its own, until all have ended or a signal stops them."""
    stopped: list[int] = []
    for number in STOPPING:
        signal.signal(number, lambda number, frame: stopped.append(number))
    devices = choose_devices(arguments.device, arguments.trials_per_gpu)
    say(f"workers here: {describe_devices(devices)}")
    if len(set(devices)) < len(devices) and devices[0].startswith("cuda") and not mps_is_running():
        say("trials on one GPU take turns; with NVIDIA's MPS they run at once: nvidia-cuda-mps-control -d")
    folder = Folder(arguments.logs)
    workers = LocalWorkers(devices, sys.argv[1:], None, say)
    while not stopped and not workers.all_gone:
        workers.look_after(lambda: len(list(folder.settled())) if folder.seen.is_dir() else 0)
        time.sleep(0.1)
    workers.stop(arguments.grace + 5)
    return 128 + stopped[0] if stopped else workers.exit_code


def prepare(arguments: argparse.Namespace) -> Objective:
    """Set up the process and load the objective, before any trial is claimed. Raises UsageError."""
    # Before torch or numpy are imported: they read these once. Several workers, each with threads for every core,
    # would stand in each other's way.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(arguments.threads)
    return load_objective(arguments.objective, arguments.device)


def load_objective(name: str, device: str) -> Objective:
    """The function MODULE:FUNCTION; if the module has a function `prepare(device)`, it is called first.

    Raises UsageError, with what the import or the preparation complained about.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"--objective {name}: write MODULE:FUNCTION, such as {DEFAULT_OBJECTIVE}")
    sys.path.insert(0, os.getcwd())  # one's own module is where one is
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a person's own module raises
        raise UsageError(f"--objective {name}: can't import {module_name}: {_in_a_line(error)}") from None
    objective = getattr(module, function_name, None)
    if not callable(objective):
        raise UsageError(f"--objective {name}: {module_name} has no function '{function_name}'")
    try:
        getattr(module, "prepare", lambda device: None)(device)
    except Exception as error:
        raise UsageError(f"{module_name} can't train here: {_in_a_line(error)}") from None
    return objective  # type: ignore[no-any-return]


class Worker:
    """One worker: claim, train, finish, repeat.

    Args:
        name: of the objective; the study's must be the same.
        checkpoint_every: seconds between two checkpoints of a training; 0: only when stopped.
        idle_timeout: seconds without work after which it ends; None: when the study is complete.
        grace: seconds in which a training must have saved its state when told to stop.
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
        self.signal = 0  # the one that asked us to stop
        self.saves_state = False  # does the training in hand save checkpoints?
        self.watchdog = Watchdog(STOPPING, grace, self.bail_out)
        self._training: tuple[Claim, Trial] | None = None
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
        self.say(f"stopped by {signal.Signals(self.signal).name}" if self.signal else "nothing more to do", trained)
        return 128 + self.signal if self.signal else 0

    # ---- claim

    def wait_for_claim(self) -> Claim | None:
        """The next trial, ours alone; None when the study is complete or we have been idle for too long."""
        idle_since, wait, told = time.monotonic(), FIRST_WAIT, False
        while True:
            if self.signal:
                raise Stopped
            claim = self.patiently(self.try_to_claim)
            if claim:
                return claim
            if self.patiently(self.folder.is_complete):
                return None
            if self.idle_timeout is not None and time.monotonic() - idle_since > self.idle_timeout:
                return None
            if wait > LONGEST_WAIT / 2 and not told:
                there = "" if self.folder.path.is_dir() else " (there is no such directory yet: is the path right?)"
                self.say(f"waiting for work in {self.folder.path}{there}")
                told = True
            self.sleep(wait * random.uniform(0.5, 1.5))  # not all workers at the same moment
            wait = min(2 * wait, LONGEST_WAIT)

    def try_to_claim(self) -> Claim | None:
        """Claim one of the names that the last listing gave us; when they are used up, list anew."""
        if self.metric is None and not self.know_study():
            return None
        try:
            claim = self.folder.claim(self.owner, self._candidates)
            if claim is None:
                self._candidates = self.folder.candidates(self.owner)
                claim = self.folder.claim(self.owner, self._candidates)
        except OSError:
            self._candidates = iter(())  # the claim may have succeeded all the same: a new listing will show it
            raise
        return claim

    def know_study(self) -> bool:
        """Read study.json once it is there. Raises UsageError if its trials are not for our objective."""
        study = self.folder.read_study()
        if study is None:
            return False
        theirs = study.get("objective", self.objective_name)
        if theirs != self.objective_name:
            raise UsageError(
                f"{self.folder.path}: this study is to be trained with '{theirs}', not '{self.objective_name}'; "
                f"if you trust that code, start the worker with --objective {theirs}"
            )
        self.metric = str(study.get("metric"))
        return True

    # ---- train

    def train(self, claim: Claim, heartbeat: Heartbeat) -> bool:
        """One trial, from claim to hand-in. True if it was handed in with a result."""
        label, start = claim.name.label, time.monotonic()
        last_word: Record | None = None
        try:
            try:
                trial = self.patiently(claim.read)
            except BrokenFile as error:
                self.say(str(error))
                self.patiently(claim.hand_in)  # as it is: the master judges it and tries again
                return False
            heartbeat.hold(claim, trial.lease or SIGNS_PER_LEASE)  # unknown: a sign every second
            self.patiently(lambda: claim.append(describe_owner(self.owner)))
            self.say(f"trial {label}: {_settings_in_a_line(trial)}")
            last_word = self.evaluate(claim, trial, heartbeat)
            self.patiently(lambda: claim.finish(last_word))
        except LeaseLost:
            self.say(f"trial {label}: {claim.path} is no longer ours (its lease expired?); dropped, nothing written")
            return False
        except Stopped:
            with contextlib.suppress(LeaseLost, OSError):  # else the master finds us gone
                if last_word is not None:
                    claim.finish(last_word)
                else:
                    claim.give_back(signal.Signals(self.signal).name)
                    self.say(f"trial {label}: given back")
            raise
        finally:
            heartbeat.release()
        seconds = time.monotonic() - start
        if "error" in last_word:
            self.say(f"trial {label}: failed after {seconds:.1f} s: {last_word['error']}")
        else:
            self.say(f"trial {label}: {self.metric} {last_word['result'].get(self.metric)}, {seconds:.1f} s")
        return "result" in last_word

    def evaluate(self, claim: Claim, trial: Trial, heartbeat: Heartbeat) -> Record:
        """Run the objective. Returns the last line of the trial's file: its result, or what went wrong."""
        report = Report(self, claim, trial, heartbeat)
        self._training = claim, trial
        try:
            with self.interruptible():
                self.watchdog.allow(trial.timeout)
                result = self.objective(dict(trial.settings), report)
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
            return {"error": _in_a_line(error), "traceback": traceback.format_exc(), "time": utc_now()}
        finally:
            self._training, self.saves_state = None, False
            self.watchdog.allow(None)

    def patiently(self, action: Callable[[], T]) -> T:
        """Do it; while the filesystem is in trouble, say so once and try again. Raises LeaseLost and Stopped."""
        wait = 0.1
        while True:
            try:
                value = action()
            except OSError as error:
                self._trouble.is_there(error)
            else:
                self._trouble.is_over()
                return value
            self.sleep(wait)
            wait = min(2 * wait, 5.0)

    # ---- stop

    def sleep(self, seconds: float) -> None:
        """Wait; a signal ends it with Stopped."""
        with self.interruptible():
            time.sleep(seconds)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Where a signal may interrupt us: in training and in waiting, never between two steps of the protocol."""
        before, self._interruptible = self._interruptible, True
        try:
            if self.signal:
                raise Stopped
            yield
        finally:
            self._interruptible = before

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """One of STOPPING: stop as soon as it is safe; the second time at once."""
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number
        if not self.saves_state:  # else it stops by itself, after its next checkpoint
            self._interrupt(Stopped)

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """The watchdog says that time is up."""
        self._interrupt(Stopped if self.signal else TimedOut)

    def _interrupt(self, reason: type[BaseException]) -> None:
        if self._interruptible:
            self._interruptible = False
            raise reason

    def bail_out(self, number: int) -> None:
        """The main thread is stuck for good: do in its place what is left to do, and end or begin anew."""
        if self._training:
            claim, trial = self._training
            with contextlib.suppress(LeaseLost, OSError):
                if number:
                    claim.give_back(signal.Signals(number).name)
                else:
                    claim.finish(overtime(trial))
        if number:
            os._exit(128 + number)
        os.closerange(3, 65536)  # the device's, too
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def say(self, message: str, trained: int | None = None) -> None:
        """A line for whoever looks at this worker's output."""
        count = "" if trained is None else f"; {trained} trial{'s' * (trained != 1)} trained"
        say(f"{self.owner}: {printable(message)}{count}")


class Report:
    """What an objective calls after every epoch: `report(epoch=3, training_loss=0.1, …)`.

    A training that can be gone on with does three things more: it begins with `resume`, and whenever `checkpoint_due`
    says so it calls `checkpoint`.

    Attributes:
        device: what `--device` said.
    """

    def __init__(self, worker: Worker, claim: Claim, trial: Trial, heartbeat: Heartbeat) -> None:
        self.device = worker.device
        self._worker = worker
        self._claim = claim
        self._trial = trial
        self._heartbeat = heartbeat
        self._plan_checkpoint()

    def __call__(self, epoch: int, **metrics: Any) -> None:
        """Append one line to the learning curve. Values are numbers, text, true/false or None.

        Raises LeaseLost if the trial was given to another worker: let it pass, there is nothing left to do here.
        """
        self._check_lease()
        line = {"epoch": epoch, **{key: as_number(value) for key, value in metrics.items()}}
        self._worker.patiently(lambda: self._claim.append(line))

    def resume(self, read: Callable[[bytes], T]) -> T | None:
        """What `read` makes of the latest checkpoint of this trial that it can read; None if there is none.

        The trial's file then tells this attempt's story alone: report the earlier epochs again.
        """
        self._worker.saves_state = True
        for path, data in self._claim.load_checkpoints(self._trial.settings):
            try:
                state = read(data)
            except Exception as error:  # whatever a person's own code raises over bytes it did not expect
                self._worker.say(f"{path}: can't be gone on from: {_in_a_line(error)}")
                continue
            self._worker.say(f"trial {self._claim.name.label}: goes on from {path}")
            return state
        return None

    @property
    def checkpoint_due(self) -> bool:
        """Should `checkpoint` be called now? Cheap enough to be asked after every step. Raises LeaseLost."""
        self._worker.saves_state = True
        self._check_lease()
        return self._worker.signal != 0 or time.monotonic() >= self._next_checkpoint

    def checkpoint(self, data: bytes) -> None:
        """Keep what a later attempt needs to go on from here. Does not return if this worker is to stop."""
        try:
            self._claim.save_checkpoint(self._trial.settings, data)
        except OSError as error:  # it is no result: go on without
            self._worker.say(f"trial {self._claim.name.label}: no checkpoint: {error}")
        self._plan_checkpoint()
        if self._worker.signal:
            raise Stopped

    def _plan_checkpoint(self) -> None:
        self._next_checkpoint = time.monotonic() + (self._worker.checkpoint_every or math.inf)

    def _check_lease(self) -> None:
        if self._heartbeat.lost.is_set():
            raise LeaseLost(self._claim.path)


def say(message: str) -> None:
    """A line of this process's output."""
    with contextlib.suppress(OSError):  # it may be on the disk that is full
        print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def overtime(trial: Trial) -> Record:
    """The last word on an attempt that took too long."""
    return {"error": f"took longer than --trial-timeout {trial.timeout:g} s", "time": utc_now()}


def as_number(value: Any) -> Any:
    """A plain value for JSON from a number of numpy or torch; text, None and true/false pass. Raises TypeError."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a metric must be a number, text, true/false or None, not {value!r:.80}")


def _number_or_auto(text: str) -> int | None:
    return None if text == "auto" else int(text)


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def _settings_in_a_line(trial: Trial) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in trial.settings.items()
    )


if __name__ == "__main__":
    sys.exit(main())
