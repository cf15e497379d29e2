"""The master: publish trials, collect results, follow up what was lost.

All that it knows can be read from the folder again, so it may be killed and started again at any moment. `Ledger` is
what it knows, `Supply` what it will try next, `Watch` how it learns of workers that died; `Master.step` brings them
together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from foldertune.protocol import BrokenFile, Folder, Record, Trial, TrialName
from foldertune.rows import Row, results_csv
from foldertune.running.ledger import Ledger
from foldertune.running.supply import Supply
from foldertune.running.watch import Watch
from foldertune.strategies import Answer
from foldertune.study import Study
from foldertune.text import counted

FEWEST_AHEAD, MOST_AHEAD = 8, 1000  # pending trials kept ready for workers; and between those limits
AHEAD_PER_RUNNING, AHEAD_PER_COLLECTED = 2, 4  # so many for each running trial, and for each collected in one step
CHECKS_PER_LEASE, LONGEST_CHECK = 20, 1.0  # how often claims are looked at; seconds
SHORTEST_PAUSE, PAUSE_PER_WRITE = 1.0, 20  # between two writes of results.csv: seconds, and times what the last took


class Master:
    """Publishes, collects and follows up, one `step` after another.

    Args:
        lease: seconds of silence after which a worker's trial is given to another.
        max_attempts: record a trial as failed after this many lost attempts.
        timeout: seconds an attempt may take, or None.
        say: called with a line about everything that does not go as planned.
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
        self.ledger = Ledger()
        self.supply = Supply(study, self.ledger)
        self.watch = Watch(folder, lease)
        self.table = Table(folder)
        self.in_hand: list[TrialName] = []  # the last listing
        self._next_check = 0.0  # of claims and absent trials, by our clock

    # ---- the state of the search

    @property
    def asked(self) -> int:
        """The number of results to come: the budget, or what the strategy had, and what was queued by hand beyond."""
        if self.supply.exhausted:
            return len(self.ledger.counted) + len(self.ledger.open)
        return self.study.trials + self.ledger.beyond(self.study.trials)

    def is_done(self) -> bool:
        """Is every trial asked for counted, and nothing left in the folder?"""
        return not self.in_hand and not self.ledger.open and len(self.ledger.counted) >= self.asked

    def someone_works(self) -> bool:
        """Is any trial claimed?"""
        return any(name.state == "taken" for name in self.in_hand)

    # ---- start

    def take_stock(self) -> None:
        """Learn from the folder what has happened so far, and mend what a master that died left behind."""
        self.watch.leftovers.remove()
        first = self.folder.names()
        settled = sorted(self.folder.settled(), key=lambda name: (name.number, name.attempt))
        self.in_hand = list({*first, *self.folder.names()})  # what moved from one to the other is in one of them
        for name in settled:
            if name.state == "seen":
                self.recount(name)
        for name in self.in_hand:
            self.meet(name)
        for name in settled:
            if name.state == "lost" and name.number not in self.ledger.counted:
                trial, reason = self.examine(name, "its worker died or fell silent")
                # Its successor may be there, unseen (a directory's cache on a network): one attempt's number is left
                # out, so that no two files ever bear the same name.
                self.ledger.lose(name, reason, trial.settings if trial else None, skipped=1)
        self.supply.take_stock()

    def recount(self, name: TrialName) -> None:
        """Count a trial that has been collected before."""
        try:
            if name.number in self.ledger.counted:
                raise BrokenFile(f"{self.folder.locate(name)}: trial {name.number} is counted already")
            self.count(self.folder.read(name, epochs=False))
        except BrokenFile as error:
            self.say(f"set aside: {error}")
            self.folder.lose(name)
            if name.number not in self.ledger.counted:
                self.ledger.reopen(name, None)

    # ---- one step

    def step(self) -> bool:
        """Look at the folder once and do what is to be done. True if anything has moved."""
        before = self.progress()
        self.in_hand = self.folder.names()
        for name in self.in_hand:
            self.meet(name)
        self.collect()
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + min(LONGEST_CHECK, self.lease / CHECKS_PER_LEASE)
            self.check_claims()
            self.check_absent()
            self.folder.remove_checkpoints(self.supply.finished)
            self.watch.leftovers.look()
        self.follow_up()
        self.publish_ahead(collected=len(self.ledger.counted) - before[0])
        if self.table.is_due():
            self.write_results()
        return before != self.progress()

    def progress(self) -> tuple[int, int]:
        """What changes when anything moves: the counted trials, and all that there are."""
        return len(self.ledger.counted), len(self.ledger.counted) + len(self.ledger.open)

    def meet(self, name: TrialName) -> None:
        """Note an attempt that we have not heard of."""
        if self.ledger.is_news(name):
            self.ledger.note(name, self.chosen_settings(name))

    def chosen_settings(self, name: TrialName) -> Record | None:
        """The settings in that file, for a strategy that goes by them; None if it doesn't, or if there are none."""
        if self.supply.is_reproducible:
            return None
        try:
            return self.folder.read(name, epochs=False).settings
        except (OSError, BrokenFile):
            return None

    def collect(self) -> None:
        """Count what was handed in, and set aside what is counted already."""
        for name in self.in_hand:
            if name.number in self.ledger.counted:
                self.lose(name, f"surplus: trial {name.number} is counted already")
            elif name.state == "done":
                self.judge(name, "handed in without a result")

    def judge(self, name: TrialName, otherwise: str) -> None:
        """Count what has a result; set aside, and try again, what has none."""
        try:
            trial, reason = self.examine(name, otherwise)
        except OSError:
            return  # it has moved on since the listing, or can't be read just now
        if trial is None or reason:
            self.lose(name, reason, trial.settings if trial else None)
        elif seen := self.folder.collect(name):
            self.count(replace(trial, name=seen))

    def examine(self, name: TrialName, otherwise: str) -> tuple[Trial | None, str]:
        """The trial in that file, if it can be read, and why it does not count (empty if it does)."""
        try:
            trial = self.folder.read(name, epochs=False)
        except BrokenFile as error:
            return None, str(error)
        unfinished = trial.result is None and trial.error is None
        return trial, otherwise if unfinished else trial.shortcoming(self.study.metric) or ""

    def count(self, trial: Trial) -> None:
        """Its file is `.seen`: it is one of the results."""
        self.ledger.count(trial)
        self.table.is_old = True

    def lose(self, name: TrialName, reason: str, settings: Record | None = None) -> None:
        """Set an attempt aside that is not to be counted."""
        if self.folder.lose(name):  # else it has gone elsewhere: we will meet it there
            self.say(f"trial {name.label}: {reason}")
            self.ledger.lose(name, reason, settings)

    def check_claims(self) -> None:
        """Give up the claims of workers that died or fell silent."""
        taken = [name for name in self.in_hand if name.state == "taken" and name.number not in self.ledger.counted]
        for name, reason in self.watch.gone(taken):
            self.judge(name, reason)

    def check_absent(self) -> None:
        """Try again what no listing has shown for a whole lease: its file was removed, or lost by the filesystem.

        Unless we have collected it ourselves, and were told that this had failed.
        """
        listed = {name.number for name in self.in_hand}
        absent = [n for n in self.ledger.open if n not in listed and n not in self.ledger.losses]
        for number, seconds in self.watch.absences(absent).items():
            name = TrialName(number, self.ledger.attempts[number])
            if self.folder.has(name.to("seen")):
                self.recount(name.to("seen"))
            elif seconds > self.lease:
                reason = f"its file has vanished from {self.folder.path}"
                self.say(f"trial {number}: {reason}")
                self.ledger.lose(name, reason, None)

    def follow_up(self) -> None:
        """Give lost trials back to the workers as their next attempts, or record them as failed."""
        for number, loss in list(self.ledger.losses.items()):
            reasons = self.ledger.reasons.get(number, [])
            name = TrialName(number, loss.attempt)
            settings = loss.settings or self.supply.again(number)
            if len(reasons) >= self.max_attempts or settings is Answer.EXHAUSTED:
                known = settings if isinstance(settings, dict) else {}
                self.count(self.folder.read(self.folder.record_failure(name, known, reasons)))
                self.say(f"trial {number}: failed for good after {counted(len(reasons), 'attempt')}")
            elif isinstance(settings, dict):
                self.publish(name.next_attempt(), settings, lost=reasons)

    def publish_ahead(self, collected: int) -> None:
        """Keep some trials ready: as many as the workers may take before we look again."""
        pending = sum(name.state == "pending" for name in self.in_hand)
        running = sum(name.state == "taken" for name in self.in_hand)
        ahead = max(FEWEST_AHEAD, AHEAD_PER_RUNNING * running, AHEAD_PER_COLLECTED * collected)
        for _ in range(min(ahead, MOST_AHEAD) - pending):
            trial = self.supply.next()
            if trial is None:
                break
            self.publish(*trial)

    def publish(self, name: TrialName, settings: Record, lost: Sequence[str] = ()) -> None:
        """Offer an attempt to the workers. Settings that can't be computed again are synced."""
        sync = not self.supply.is_reproducible
        self.folder.publish(name, settings, lease=self.lease, timeout=self.timeout, lost=lost, sync=sync)
        self.ledger.note(name, settings)

    # ---- the end

    def conclude(self) -> None:
        """The search is over: leave nothing but what came out, and tell the workers. Can be done again."""
        self.write_results()
        self.folder.remove_checkpoints(self.ledger.counted)
        self.watch.leftovers.remove()  # also of a write of ours that the folder's trouble cut short
        self.folder.complete_study()

    def write_results(self) -> None:
        """Write results.csv."""
        self.table.write(self.ledger.in_order())


class Table:
    """results.csv, written again when it is old, the more rarely the longer that takes."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.is_old = folder, True
        self._next_write = 0.0  # by our clock

    def is_due(self) -> bool:
        """Is it old, and was it written long enough ago?"""
        return self.is_old and time.monotonic() >= self._next_write

    def write(self, trials: Iterable[Trial]) -> None:
        """Replace the file."""
        start = time.monotonic()
        self.folder.write_results(results_csv([Row.from_trial(trial) for trial in trials]))
        self.is_old = False
        now = time.monotonic()
        self._next_write = now + max(SHORTEST_PAUSE, PAUSE_PER_WRITE * (now - start))
