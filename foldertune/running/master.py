"""The master: publishes trials, collects results, and follows up lost attempts.

The master can be killed and started again at any moment, because it can read everything it knows from the folder.
`Ledger` holds what it knows, `Supply` chooses the next trials, `Watch` notices dead workers; `Master.step` joins them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from foldertune.protocol import LAST_ATTEMPT, BrokenFile, Folder, Proposal, Trial, TrialName
from foldertune.running.dropping import Dropping
from foldertune.running.ending import Ending, forgive_failed, meet_withdrawn
from foldertune.running.housekeeping import Finished, Housekeeping
from foldertune.running.ledger import Ledger
from foldertune.running.results_file import ResultsFile
from foldertune.running.stopper import Stopper
from foldertune.running.supply import Supply
from foldertune.running.watch import Watch
from foldertune.strategies import Answer
from foldertune.study import Study
from foldertune.text import counted

CHECK_EVERY, FILES_PER_SECOND, CHECKS_PER_LEASE = 1.0, 100, 20  # seconds between checks; more for many files, up to …
COLLECT, LATE, MOST = 100, 0.3, 500  # results in one step: so many after 0.3 s, and never more than 500


class Master:
    """Publishes, collects and follows up, one `step` after another.

    Args:
        lease: seconds of silence after which a worker's trial is given to another.
        max_attempts: lost attempts after which a trial is recorded as failed.
        timeout: seconds an attempt may take, or None.
        say: called with a line about each lost attempt and other trouble.
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
        self.folder, self.study, self.say, folder.fill = folder, study, say, study.filled
        self.lease, self.max_attempts, self.timeout = lease, max_attempts, timeout
        self.ledger, self.watch = Ledger(), Watch(folder, lease)
        self.supply, self.stopper = Supply(study, self.ledger), Stopper(folder, study, say)
        self.ending, self.results_file, self.dropping = Ending(folder, say), ResultsFile(folder), Dropping(folder)
        self.housekeeping = Housekeeping(folder, lease, say)
        self.in_hand: list[TrialName] = []  # the last listing
        self._told: int | None = None  # the last error of a single file
        self._next_check = 0.0  # by our clock

    # ---- the state of the search

    @property
    def asked(self) -> float:
        """The number of results that the study will have; infinite if nothing limits it yet.

        It is the budget and the trials queued by hand; or, if no more is to begin, the trials that there are.
        """
        if self.supply.why_over():
            return len(self.ledger.counted) + len(self.ledger.open)
        return self.study.most_trials + self.ledger.beyond(self.study.most_trials) + len(self.supply.missing)

    def is_done(self) -> bool:
        """Are all trials counted, and is no trial's file left to handle?"""
        is_open = self.in_hand or self.ledger.open or len(self.ledger.counted) < self.asked
        return not (is_open or self.supply.has_more())

    def someone_works(self) -> bool:
        """Is any trial claimed?"""
        return any(name.state == "taken" for name in self.in_hand)

    # ---- start

    def take_stock(self, *, retry_failed: bool = False) -> None:
        """Learn from the folder what has happened so far, and repair what a killed master left unfinished.

        Raises OSError while the folder is in trouble, or lacks what was counted once. Then call it again. With
        `retry_failed`, trials that have failed for good get their attempts back.
        """
        self.ledger = Ledger()
        self.supply = Supply(self.supply.study, self.ledger)
        self.housekeeping.begin()
        first, found = self.folder.names(), self.results_file.complete(self.folder.settled())
        settled = sorted(found, key=lambda name: (name.number, name.attempt))
        self.in_hand = list({*first, *self.folder.names()})  # a file that was moved meanwhile is in one of the listings
        for name in settled:
            if name.state == "seen":
                self.recount(name)
        for name in self.in_hand:
            self.meet(name)
        for name in settled:
            if name.state == "lost" and name.number not in self.ledger.counted:
                trial, reason = self.examine(name)
                # Its successor may be there, hidden by a directory's cache on a network. We skip one attempt's number,
                # so that no two files ever have the same name.
                if trial and trial.is_verdict:
                    self.ledger.forgive(name, trial, skipped=1)
                else:
                    self.ledger.lose(name, reason, trial.proposal if trial else None, skipped=1)
        self.dropping.look(self.ledger)
        if retry_failed:
            forgive_failed(self.folder, self.ledger, self.say)
        meet_withdrawn(self.folder, self.ledger)
        self.supply.spending.look(self.folder, self.in_hand)
        self.supply.take_stock()

    def recount(self, name: TrialName) -> None:
        """Count a trial that was collected before. Set its file aside if it is broken, or counted already."""
        try:
            trial = self.watch.read_anew(name)
        except BrokenFile as error:
            self.say(f"set aside: {error}")
            self.folder.lose(name)
            if name.number not in self.ledger.counted:
                self.ledger.reopen(name, None)
            return
        if double := self.ledger.double_of(trial):
            self.housekeeping.drop_double(double)
        if double != name:
            self.count(trial)

    # ---- one step

    def step(self) -> bool:
        """Look at the folder once and do everything that is due. True if anything has changed."""
        before = self.progress()
        self.in_hand = self.folder.names()
        for name in self.in_hand:
            self.meet(name)
        with self.folder.keeping_seen_open():
            self.collect()
        self.supply.spending.look(self.folder, self.in_hand)
        if time.monotonic() >= self._next_check:
            pause = max(CHECK_EVERY, len(self.in_hand) / FILES_PER_SECOND)
            self._next_check = time.monotonic() + min(pause, self.lease / CHECKS_PER_LEASE)
            self.check_claims()
            self.check_absent()
            self.results_file.is_old |= self.dropping.look(self.ledger)
            self.housekeeping.look(Finished(self.ledger.counted, needed := self.supply.needed))
            self.housekeeping.limit_checkpoints(needed, self.study.most_checkpoints)
            if self.folder.is_complete and not self.is_done():  # a master that we have followed has said so, late
                self.folder.write_study(self.study.to_record())
        self.follow_up()
        self.publish_ahead(collected=len(self.ledger.counted) - before[0])
        if self.results_file.is_due():
            self.write_results()
        return before != self.progress()

    def progress(self) -> tuple[int, int]:
        """The number of counted trials, and of all trials. One of them changes whenever something happens."""
        return len(self.ledger.counted), len(self.ledger.counted) + len(self.ledger.open)

    def meet(self, name: TrialName) -> None:
        """Note an attempt that we don't know yet."""
        if self.ledger.is_news(name):
            proposal = self.supply.proposal_in(self.folder, name)
            self.ledger.note(name, proposal)
            self.supply.note(name.number, proposal)

    def collect(self) -> None:
        """Count the results that were handed in. Set aside files of trials that are counted already."""
        late, before = time.monotonic() + LATE, len(self.ledger.counted)
        for name in self.in_hand:
            if len(self.ledger.counted) - before >= (COLLECT if time.monotonic() > late else MOST):
                break
            try:
                if name.number in self.ledger.counted:
                    self.lose(name, f"surplus: trial {name.number} is counted already")
                elif name.state == "done":
                    self.judge(name, "handed in without a result")
            except NotADirectoryError:
                raise
            except OSError as error:  # such as EBUSY, because somebody has opened it: the others need not wait
                if error.errno != self._told:
                    self._told = error.errno
                    self.say(f"trial {name.label}: can't be collected yet: {error}")

    def judge(self, name: TrialName, otherwise: str) -> None:
        """Count an attempt that has a result. Set aside one that has none; its trial is tried again."""
        try:
            trial, reason = self.examine(name, otherwise)
        except OSError:
            return  # it was renamed since the listing, or can't be read just now
        if name.state == "done" and (trial is None or not trial.is_over) and self.watch.is_in_doubt(name):
            return
        if trial is None or reason:
            self.lose(name, reason, trial.proposal if trial else None)
        elif seen := self.folder.collect(name):
            trial.name = seen
            self.count(trial)

    def examine(self, name: TrialName, otherwise: str = "") -> tuple[Trial | None, str]:
        """The trial in a file (None if it is broken), and why it does not count (empty if it does)."""
        try:
            trial = self.folder.read(name)
        except BrokenFile as error:
            return None, str(error)
        if not trial.is_over:
            return trial, otherwise or trial.silence
        return trial, trial.shortcoming(*self.study.metric_names) or ""

    def count(self, trial: Trial) -> None:
        """Note that this trial is one of the results: its file is `.seen`."""
        self.stopper.note(trial)
        trial.epochs = []  # they are checked, and not needed any more
        self.ledger.count(trial)
        self.supply.note(trial.name.number, trial.proposal)
        self.results_file.is_old = True

    def lose(self, name: TrialName, reason: str, proposal: Proposal | None = None) -> None:
        """Set aside an attempt that does not count."""
        if self.folder.lose(name):  # if not, it was renamed meanwhile: we will meet it under its new name
            self.say(f"trial {name.label}: {reason}")
            self.ledger.lose(name, reason, proposal)

    def check_claims(self) -> None:
        """Take back the trials of workers that died or fell silent. Ask those of hopeless trials to stop."""
        taken = [name for name in self.in_hand if name.state == "taken" and name.number not in self.ledger.counted]
        for name, reason in self.watch.gone(taken):
            self.judge(name, reason)
        self.stopper.look(taken)

    def check_absent(self) -> None:
        """Try a trial again if no listing has shown it for a whole lease: its file was removed, or got lost.

        If we have collected it ourselves, although the rename seemed to fail, count it instead.
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
        """Publish the next attempt of each lost trial, or record the trial as failed."""
        for number, loss in list(self.ledger.losses.items()):
            reasons = self.ledger.reasons.get(number, [])
            name = TrialName(number, min(loss.attempt, LAST_ATTEMPT))
            proposal = loss.proposal or self.supply.again(number)
            is_last = self.ledger.failures(number) >= self.max_attempts or loss.attempt >= LAST_ATTEMPT
            if is_last or proposal is Answer.EXHAUSTED:
                known = proposal if isinstance(proposal, Proposal) else Proposal({})
                self.count(self.folder.read(self.folder.record_failure(name, known, reasons)))
                self.say(f"trial {number}: failed for good after {counted(len(reasons), 'attempt')}")
            elif self.supply.spending.why_over() and self.supply.spending.concerns(number):
                self.ledger.withdraw(name, loss.proposal)
            elif isinstance(proposal, Proposal):
                self.publish(name.next_attempt(), proposal, lost=reasons)

    def publish_ahead(self, collected: int) -> None:
        """Keep enough pending trials ready for the workers until the next step; none of a search that is over."""
        if self.supply.spending.why_over():
            self.ending.withdraw(self.supply.spending, self.in_hand)
        elif self.supply.reinstate():  # the next step publishes them
            return
        for _ in range(self.supply.lacking(self.in_hand, collected)):
            trial = self.supply.next()
            if self.supply.is_over():
                self.ending.tell(self.supply.why_over())
            if trial is None:
                break
            if remark := self.supply.remark(*trial):
                self.say(remark)
            if not self.publish(*trial):
                break

    def publish(self, name: TrialName, proposal: Proposal, lost: Sequence[str] = ()) -> bool:
        """Offer an attempt. False if a person has just queued a trial of this name: the next listing shows it."""
        sync, lease = not self.supply.is_reproducible, self.lease  # settings that can't be computed again
        if not self.folder.publish(name, proposal, lease=lease, timeout=self.timeout, lost=lost, sync=sync):
            return False
        self.ledger.note(name, proposal)
        self.supply.note(name.number, proposal)
        return True

    # ---- the end

    def conclude(self) -> None:
        """Write the results, tidy up, and tell the workers. May be called again after an OSError."""
        self.ending.tell(self.supply.why_over())
        self.write_results()
        self.housekeeping.end(self.ledger.counted)
        self.folder.complete_study(self.study.to_record())

    def write_results(self) -> None:
        """Write results.csv now."""
        self.results_file.write(self.ledger.in_order())
