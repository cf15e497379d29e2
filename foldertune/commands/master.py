#!/usr/bin/env python3
"""Search hyperparameters: publish trials, requeue lost ones, collect results.

    python master.py                    the study `quickstart`, in logs/,
                                        by a worker a core of this machine
    python master.py scenario5 --logs /shared/me/lr --workers 0
                                        by workers elsewhere; on any machine,
    python worker.py --logs /shared/me/lr               as often as you like
    python master.py mine.toml --trials 100 --seed 7    a study of your own:
                                        studies/quickstart.toml explains how

Stop it whenever you like (Ctrl-C, even kill -9) and start it again with the
same command: the search goes on, for all it knows is in the folder. What came
out: `python -m foldertune results`, and `results.csv` in the folder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType


from foldertune.commands.results import print_table
from foldertune.launch.local import LocalWorkers
from foldertune.launch.machine import choose_devices, count_cores, describe_devices
from foldertune.protocol import (
    DEFAULT_LEASE,
    BrokenFile,
    Folder,
    Leases,
    Record,
    Trial,
    TrialName,
    has_died,
    host_name,
    owner_has_died,
    utc_now,
    write_whole,
)
from foldertune.reading.live import open_view
from foldertune.reading.status import look
from foldertune.rows import Row, rank, results_csv
from foldertune.strategies import Categorical
from foldertune.study import DEFAULT_OBJECTIVE, Study, StudyError, differences, load_study

SHORTEST_WAIT, LONGEST_WAIT = 0.01, 1.0  # seconds between two looks at the folder
FEWEST_AHEAD, MOST_AHEAD = 8, 1000  # pending trials kept ready for workers


class UsageError(Exception):
    """What the user asked for can't be done. The message says what to do instead."""


class Terminated(BaseException):
    """SIGTERM: end as on Ctrl-C."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    group = parser.add_argument_group("what to search")
    group.add_argument(
        "study", nargs="?", default="quickstart", metavar="STUDY",
        help="a name in studies/ (quickstart, scenario1 … scenario6) or a TOML file of yours (default: quickstart)",
    )  # fmt: skip
    add_logs(group)
    group.add_argument("--trials", type=int, metavar="N", help="the budget: N results (default: what the study says)")
    group.add_argument("--repeats", type=int, metavar="N", help="of a grid: each combination N times, with other seeds")
    group.add_argument("--seed", type=int, metavar="N", help="another search in the same space (default: the study's)")
    group = parser.add_argument_group("workers on this machine")
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="start N; 0: none, you start them yourself (default: one on each GPU, without a GPU one a core)",
    )  # fmt: skip
    group.add_argument("--device", default="all", help="what they train on: as worker.py (default: all)")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of each (default: 1)")
    add_checkpoint_every(group)
    group = parser.add_argument_group("lost workers")
    group.add_argument(
        "--lease", type=float, default=DEFAULT_LEASE, metavar="SECONDS",
        help="silence after which a worker's trial is given to another (default: %(default)g, as NFS caches need)",
    )  # fmt: skip
    group.add_argument(
        "--max-attempts", type=int, default=3, metavar="N",
        help="a trial lost so often is recorded as failed (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--trial-timeout", type=float, metavar="SECONDS",
        help="an attempt that takes longer is ended, and lost (default: none is)",
    )  # fmt: skip
    arguments = parser.parse_args()
    for option in ("trials", "threads", "max_attempts", "workers"):
        value, least = getattr(arguments, option), 0 if option == "workers" else 1
        if value is not None and value < least:
            parser.error(f"--{option.replace('_', '-')}: must be at least {least}")
    for option in ("lease", "trial_timeout"):
        value = getattr(arguments, option)
        if value is not None and not 0 < value < math.inf:
            parser.error(f"--{option.replace('_', '-')}: must be a number of seconds above 0")
    if not 0 <= arguments.checkpoint_every < math.inf:
        parser.error("--checkpoint-every: must be a number of seconds, 0 or more")
    return arguments


def main() -> int:
    """Search until the budget is spent.

    Exit code 0; 1 if no worker can be kept alive; 2 for bad usage; 130 on Ctrl-C, 143 on SIGTERM.
    """
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names come from files
    try:
        study = load_study(arguments.study).with_trials(
            arguments.trials, arguments.seed, arguments.study, arguments.repeats
        )
        check_settings(study, arguments.study)
        with only_master(arguments.logs):
            folder = open_folder(arguments.logs, study)
            return search(folder, study, arguments)
    except (UsageError, StudyError, BrokenFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename2 or error.filename or arguments.logs}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def search(folder: Folder, study: Study, arguments: argparse.Namespace) -> int:
    """Publish, requeue and collect until the budget is spent, with a view of it for the user."""
    signal.signal(signal.SIGTERM, _terminate)
    with open_view() as view:
        master = Master(folder, study, arguments.lease, arguments.max_attempts, arguments.trial_timeout, view.say)
        devices: list[str] = []
        options = ["--logs", str(folder.path), "--objective", study.objective]
        options += ["--threads", str(arguments.threads), "--checkpoint-every", str(arguments.checkpoint_every)]
        workers = None
        try:
            master.take_stock()
            if not master.is_done():
                folder.write_study(study.to_record())
                if arguments.workers != 0:
                    devices = choose_devices(arguments.device, workers=arguments.workers)
                view.say(hint(folder, study, devices, arguments.threads))
                workers = LocalWorkers(devices, options, folder.path, view.say)
            code = run(master, workers, view.show)
        except (KeyboardInterrupt, Terminated) as stop:
            code = 130 if isinstance(stop, KeyboardInterrupt) else 128 + signal.SIGTERM
            view.say("stopping" + (": local workers give their trials back" if devices else ""))
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if workers:
                workers.stop()
        if code:
            master.write_results()
        view.show(lambda: look(folder, study, master.rows_in_order()), last=True)
    best = rank(master.rows.values(), study.metric, study.direction)[:5]
    print_table(folder, study, master.rows_in_order(), [row.cells() for row in best])
    if code:
        print(f"Not complete. Go on with: {shlex.join(['python', *sys.argv])}")
    return code


def run(master: Master, workers: LocalWorkers | None, show: Callable[..., None]) -> int:
    """The loop: one step after another, more seldom while nothing happens. Returns the exit code."""
    wait, trouble = SHORTEST_WAIT, Trouble(master.say)
    longest_wait = min(LONGEST_WAIT, master.lease / 20)
    while True:
        moved = False
        try:
            moved = master.step()
            if master.is_done():
                master.conclude()
                return 0
            show(lambda: look(master.folder, master.study, master.rows_in_order()))
            if workers:
                workers.look_after(lambda: master.ended)
            trouble.is_over()
        except OSError as error:  # a full disk, a server that restarts: it passes, and the step can be done again
            trouble.is_there(error)
        quiet = not moved and wait >= longest_wait  # for some seconds, not between two trials
        if workers and quiet and workers.all_gone and not master.someone_works():
            master.say("no worker is left on this machine, and none works elsewhere")
            return 1
        wait = SHORTEST_WAIT if moved else min(1.5 * wait, longest_wait)
        time.sleep(wait)


@dataclass(frozen=True)
class Loss:
    """An attempt that ended without a result and has no successor yet."""

    attempt: int
    settings: Record | None  # None: its file could not be read


class Master:
    """What the master knows of its study. All of it can be read from the folder again.

    Args:
        lease: seconds of silence after which a worker's trial is given to another.
        max_attempts: a trial lost so often is recorded as failed.
        timeout: seconds an attempt may take, or None.
        say: told, in a line, of everything that does not go as planned.
    """

    def __init__(
        self,
        folder: Folder,
        study: Study,
        lease: float,
        max_attempts: int,
        timeout: float | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.study, self.say = folder, study, say
        self.lease, self.max_attempts, self.timeout = lease, max_attempts, timeout
        self.rows: dict[int, Row] = {}  # the trials that are counted
        self.open: dict[int, int] = {}  # those that are not: their latest attempt
        self._losses: dict[int, Loss] = {}  # trials whose latest attempt is lost and must be followed up
        self._reasons: dict[int, list[str]] = {}  # why attempts of a trial were lost
        self._next = 0  # no trial below this number is left to be published
        self._highest = -1  # of the numbers that were there when we came
        self._leases = Leases(lease)
        self._claims: dict[TrialName, Trial] = {}
        self._absent: dict[int, float] = {}  # trials that no listing shows: since when, by our clock
        self._in_hand: list[TrialName] = []  # the last listing
        self._next_check = 0.0  # of the claims, by our clock
        self._unwritten, self._next_write = True, 0.0  # results.csv

    # ---- the state of the search

    @property
    def asked(self) -> int:
        """The number of results to come: the budget, and what was queued by hand beyond it."""
        return self.study.trials + sum(n >= self.study.trials for n in (*self.rows, *self.open))

    @property
    def ended(self) -> int:
        """Trials counted and attempts lost, so far."""
        return len(self.rows) + sum(map(len, self._reasons.values()))

    def is_done(self) -> bool:
        """Is every trial asked for counted, and nothing left in the folder?"""
        return len(self.rows) >= self.asked and not self.open and not self._in_hand

    def someone_works(self) -> bool:
        """Is any trial claimed?"""
        return any(name.state == "taken" for name in self._in_hand)

    def rows_in_order(self) -> list[Row]:
        """The counted trials by number."""
        return [self.rows[number] for number in sorted(self.rows)]

    # ---- start

    def take_stock(self) -> None:
        """Learn from the folder what has happened so far, and mend what a master that died left behind."""
        self.folder.remove_leftovers()
        first = self.folder.names()
        settled = sorted(self.folder.settled(), key=lambda name: (name.number, name.attempt))
        self._in_hand = list({*first, *self.folder.names()})  # what moved from one to the other is in one of them
        for name in settled:
            if name.state == "seen":
                self._recount(name)
        for name in self._in_hand:
            if name.number not in self.rows:
                self.open[name.number] = max(name.attempt, self.open.get(name.number, 0))
        lost = [name for name in settled if name.state == "lost" and name.number not in self.rows]
        for name in lost:
            trial, reason = self._examine(name, "its worker died or fell silent")
            self._reasons.setdefault(name.number, []).append(reason)
            if name.attempt >= self.open.get(name.number, 0):
                # Its successor may be there, unseen (a directory's cache on a network): one attempt's number is
                # left out, so that no two files ever bear the same name.
                self.open[name.number] = name.attempt
                self._losses[name.number] = Loss(name.attempt + 1, trial.settings if trial else None)
        self._highest = max((*self.rows, *self.open), default=-1)

    def _recount(self, name: TrialName) -> None:
        """Count a trial that an earlier master has collected."""
        try:
            if name.number in self.rows:
                raise BrokenFile(f"{self.folder.locate(name)}: trial {name.number} is counted already")
            self._count(self.folder.read(name))
        except BrokenFile as error:
            self.say(f"set aside: {error}")
            self.folder.lose(name)
            if name.number not in self.rows:
                self.open[name.number] = name.attempt
                self._losses[name.number] = Loss(name.attempt, None)

    def _count(self, trial: Trial) -> None:
        """Its file is `.seen`: it is one of the results asked for."""
        number = trial.name.number
        self.rows[number] = Row.from_trial(trial)
        self.open.pop(number, None)
        self._losses.pop(number, None)
        self._unwritten = True

    # ---- one step

    def step(self) -> bool:
        """Look at the folder once and do what is to be done. True if anything has moved."""
        before = len(self.rows), len(self.open), self._next
        self._in_hand = self.folder.names()
        for name in self._in_hand:
            if name.number not in self.rows and name.attempt > self.open.get(name.number, 0):
                self.open[name.number] = name.attempt  # given back by its worker, or queued by hand
                self._losses.pop(name.number, None)
        for name in self._in_hand:
            if name.number in self.rows:
                self._lose(name, f"surplus: trial {name.number} is counted already")
            elif name.state == "done":
                self._judge(name, "handed in without a result")
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + min(1.0, self.lease / 20)
            self._check_claims()
            self._check_absent()
            self.folder.remove_checkpoints(self.rows)
        self._follow_up()
        self._publish_ahead(collected=len(self.rows) - before[0])
        if self._unwritten and time.monotonic() >= self._next_write:
            self.write_results()
        return before != (len(self.rows), len(self.open), self._next)

    def _judge(self, name: TrialName, otherwise: str) -> None:
        """Count what has a result; set aside, and try again, what has none."""
        try:
            trial, reason = self._examine(name, otherwise)
        except OSError:
            return  # it has moved on since the listing, or can't be read just now
        if trial is None or reason:
            self._lose(name, reason, trial)
            return
        seen = self.folder.collect(name)
        if seen:
            self._count(replace(trial, name=seen))

    def _examine(self, name: TrialName, otherwise: str) -> tuple[Trial | None, str]:
        """The trial in that file, if it can be read, and why it does not count (empty if it does)."""
        try:
            trial = self.folder.read(name)
        except BrokenFile as error:
            return None, str(error)
        unfinished = trial.result is None and trial.error is None
        return trial, otherwise if unfinished else trial.shortcoming(self.study.metric) or ""

    def _lose(self, name: TrialName, reason: str, trial: Trial | None = None) -> None:
        if self.folder.lose(name) is None:
            return  # it has gone elsewhere: we will meet it there
        self.say(f"trial {name.label}: {reason}")
        if name.number not in self.rows:
            self._reasons.setdefault(name.number, []).append(reason)
            if name.attempt >= self.open.get(name.number, 0):
                self._losses[name.number] = Loss(name.attempt, trial.settings if trial else None)

    def _check_claims(self) -> None:
        """Give up the claims of workers that died (on this machine) or fell silent (anywhere)."""
        taken = [name for name in self._in_hand if name.state == "taken" and name.number not in self.rows]
        self._leases.look(set(taken))
        self._claims = {name: trial for name, trial in self._claims.items() if name in taken}
        for name in taken:
            is_new = self._leases.is_new(name)
            try:
                silence = self._leases.silence(name, self.folder.signature(name))
            except OSError:
                continue  # it has moved on since the listing
            if is_new:
                continue  # most are gone by the next time
            trial = self._claim_of(name)
            # An earlier master may have asked for signs more seldom: as seldom as the default lease does, at most.
            lease = max(self.lease, min(trial.lease or 0.0, DEFAULT_LEASE)) if trial else self.lease
            if has_died(trial.claim) if trial else owner_has_died(name.owner):
                self._judge(name, f"its worker {name.owner} died")
            elif silence > lease:
                self._judge(name, f"no sign of life from {name.owner} for {lease:g} s")

    def _claim_of(self, name: TrialName) -> Trial | None:
        """What its worker has said of itself; None before it has."""
        if name not in self._claims:
            try:
                trial = self.folder.read(name)
            except (BrokenFile, OSError):
                return None
            if trial.claim.get("claimed") != name.owner:
                return None
            self._claims[name] = trial
        return self._claims[name]

    def _check_absent(self) -> None:
        """Try again what no listing has shown for a whole lease: its file was removed, or lost by the filesystem.

        Unless we have collected it ourselves, and were told that this had failed.
        """
        listed = {name.number for name in self._in_hand}
        absent = [n for n in self.open if n not in listed and n not in self._losses]
        now = time.monotonic()
        self._absent = {number: self._absent.get(number, now) for number in absent}
        for number, since in self._absent.items():
            seen = TrialName(number, self.open[number], "seen")
            if self.folder.has(seen):
                self._recount(seen)
            elif now - since > self.lease:
                reason = f"its file has vanished from {self.folder.path}"
                self.say(f"trial {number}: {reason}")
                self._reasons.setdefault(number, []).append(reason)
                self._losses[number] = Loss(self.open[number], None)

    def _follow_up(self) -> None:
        """Give lost trials back to the workers as their next attempts, or record them as failed."""
        for number, loss in list(self._losses.items()):
            reasons = self._reasons.get(number, [])
            settings = loss.settings
            if settings is None and number < self.study.trials:
                settings = self.study.settings(number)
            if settings is None or len(reasons) >= self.max_attempts:
                name = self.folder.record_failure(TrialName(number, loss.attempt), settings or {}, reasons)
                self._count(self.folder.read(name))
                self.say(f"trial {number}: failed for good after {len(reasons)} attempt{'s' * (len(reasons) != 1)}")
            else:
                name = TrialName(number, loss.attempt).next_attempt()
                self.folder.publish(name, settings, lease=self.lease, timeout=self.timeout, lost=reasons)
                self.open[number] = name.attempt
                del self._losses[number]

    def _publish_ahead(self, collected: int) -> None:
        """Keep some trials ready: as many as the workers may take before we look again."""
        pending = sum(name.state == "pending" for name in self._in_hand)
        running = sum(name.state == "taken" for name in self._in_hand)
        wanted = min(max(FEWEST_AHEAD, 2 * running, 4 * collected), MOST_AHEAD) - pending
        while wanted > 0 and self._next < self.study.trials:
            number = self._next
            if number not in self.rows and number not in self.open:
                # Below the highest number that was there when we came, a first attempt may be there, unseen.
                name = TrialName(number, 2 if number < self._highest else 1)
                self.folder.publish(name, self.study.settings(number), lease=self.lease, timeout=self.timeout)
                self.open[number] = name.attempt
                wanted -= 1
            self._next += 1

    def conclude(self) -> None:
        """The search is over: leave nothing but what came out, and tell the workers. Can be done again."""
        self.write_results()
        self.folder.remove_checkpoints(self.rows)
        self.folder.remove_leftovers()  # of a write that the folder's trouble cut short
        self.folder.complete_study()

    def write_results(self) -> None:
        """Write results.csv: the sooner again the less time it takes."""
        start = time.monotonic()
        self.folder.write_results(results_csv(self.rows_in_order()))
        self._unwritten = False
        self._next_write = time.monotonic() + max(1.0, 20 * (time.monotonic() - start))


# ---------------------------------------------------------------- before the search


def check_settings(study: Study, source: str) -> None:
    """Refuse what the built-in objective can't train with, before a worker finds out. Raises StudyError."""
    if study.objective != DEFAULT_OBJECTIVE:
        return
    from training.settings import SettingsError, complete

    values = {
        key: dimension.choices if isinstance(dimension, Categorical) else (dimension.low, dimension.high)
        for key, dimension in study.space.items()
    }
    first = {**study.fixed, **{key: options[0] for key, options in values.items()}}
    for key, options in values.items():
        for option in options:
            try:
                complete({**first, key: option})
            except SettingsError as error:
                raise StudyError(f"{source}: {error}") from None


@contextmanager
def only_master(logs: Path) -> Iterator[None]:
    """Be the one master of this folder. Raises UsageError, naming who is already."""
    from filelock import FileLock, Timeout

    try:
        logs.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"--logs {logs}: is not a directory") from None
    lock, holder = FileLock(logs / ".master.lock", timeout=0), logs / ".master.json"
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{logs}: {_describe_holder(holder)}; end that master first, or use another --logs") from None
    except NotImplementedError:
        print(f"{logs}: this filesystem has no locks; see to it that no other master runs here", file=sys.stderr)
    try:
        who = {"pid": os.getpid(), "host": host_name(), "since": utc_now()}
        write_whole(holder, json.dumps(who).encode())
        yield
    finally:
        lock.release()


def _describe_holder(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} on {who['host']} has been searching here since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another master is searching here"


def open_folder(logs: Path, study: Study) -> Folder:
    """The folder, fit for this study. Raises StudyError if another has begun in it, naming what differs."""
    folder = Folder(logs)
    folder.prepare()
    record, names = folder.read_study(), [*folder.names(), *folder.settled()]
    if record is None:
        if any(name.state != "pending" for name in names):  # pending: queued by hand before we came
            raise StudyError(f"{logs}: holds trials but no study.json; put it back, or use another --logs")
        return folder
    there = Study.from_record(record, str(folder.study))
    if differing := differences(there, study):
        raise StudyError(
            f"{logs}: another study has begun here; it differs in {', '.join(differing)}; "
            f"use another --logs, or change it back"
        )
    beyond = max((name.number for name in names if name.number < there.trials), default=-1)
    if beyond >= study.trials:
        raise StudyError(
            f"{logs}: has begun with trial {beyond} of {there.trials} already, "
            f"more than the {study.trials} asked for now; go on with --trials {there.trials}, or use another --logs"
        )
    return folder


def hint(folder: Folder, study: Study, devices: Sequence[str], threads: int) -> str:
    """What the search is, who works on it, and how to help it."""
    own = "" if study.objective == DEFAULT_OBJECTIVE else f" --objective {study.objective}"
    local = ""
    if devices:
        cores = count_cores()
        crowd = f" (they want {len(devices) * threads} cores, there are {cores})"
        local = f"workers here: {describe_devices(devices)}{crowd if len(devices) * threads > cores else ''}; "
    extreme = "lowest" if study.direction == "minimize" else "highest"
    more = "more workers" if devices else "workers"
    return (
        f"{study.name}: {study.trials} trials, {study.strategy} search for the {extreme} {study.metric}; "
        f"{local}{more}, on any machine: python worker.py --logs {shlex.quote(str(folder.path))}{own}"
    )


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
