"""Makes sure that a folder has only one master, and that it belongs to this study."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foldertune.confirm import FIRST
from foldertune.definitions import differences
from foldertune.errors import StudyError, UserError
from foldertune.protocol import (
    DEFAULT_LEASE,
    SIGNS_PER_LEASE,
    Folder,
    Heartbeat,
    Leases,
    LedFolder,
    Masters,
    Mastership,
    Record,
    has_died,
    make_directory,
    new_owner,
)
from foldertune.running.change import changed, renew_pending, successor, with_strategy_of
from foldertune.study import Study
from foldertune.study_file import study_from_record
from foldertune.trouble import Trouble

BEAT = 1.0  # seconds between two signs of life of a master, however long its lease: a newcomer soon sees one
LOOK, LONGEST_LOOK = 0.1, 1.0  # seconds between two looks for one; while nothing happens, they become rarer
SAY_AFTER = 3.0  # seconds without a sign of life after which a newcomer says what it waits for


class FolderIsLed(UserError):
    """Another master leads the folder, and lives."""


@contextmanager
def only_master(
    logs: Path,
    lease: float = DEFAULT_LEASE,
    *,
    standby: bool = False,
    say: Callable[[str], None] = print,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[LedFolder]:
    """Lead the folder. Raises UserError, naming the other master, if there is one.

    Args:
        lease: seconds of silence after which another master may follow this one.
        standby: wait until the other master has ended, died or fallen silent.
        say: called with a line that says what we wait for.
        pause: waits for so many seconds, or raises what ends the wait.
    """
    folder = Folder(logs)
    if folder.is_kept():
        raise UserError(f"{logs}: is a kept study; search in another folder (--logs)")
    try:
        make_directory(logs)
    except FileExistsError:
        raise UserError(f"--logs {logs}: is not a directory") from None
    heartbeat = Heartbeat()
    mastership, before = _lead(Masters(folder), lease, standby, say, pause)
    heartbeat.hold(mastership, min(lease, BEAT * SIGNS_PER_LEASE))
    heartbeat.start()
    try:
        before.see_off(mastership)
        yield LedFolder(logs, mastership)
    finally:
        heartbeat.release()
        mastership.end()


def _lead(
    masters: Masters, lease: float, standby: bool, say: Callable[[str], None], pause: Callable[[float], None]
) -> tuple[Mastership, Vigil]:
    """Wait for our turn, and lead."""
    owner, number = new_owner(), 0
    while True:
        number = max(masters.newest(), number)
        vigil = Vigil(masters, number, lease, say)
        why = vigil.wait(standby, pause)
        if why is not None:
            mastership = masters.follow(number, owner, lease)
            if mastership:
                vigil.announce(why)
                return mastership, vigil
            number += 1  # another newcomer was faster
        else:
            number = 0


class Vigil:
    """A newcomer's watch over the master before it, by its own clock.

    Args:
        number: the master's; 0: there was none.
        lease: the newcomer's, if the master has not written down one of its own.
    """

    def __init__(self, masters: Masters, number: int, lease: float, say: Callable[[str], None]) -> None:
        self.masters, self.number = masters, number
        self.holder = masters.holder(number) if number else None
        stated = self.holder.claim.get("lease") if self.holder else None
        self.lease = float(stated) if isinstance(stated, int | float) and 0 < stated < 1e9 else lease
        self._watch, self._first = Leases(self.lease), self.holder.signature if self.holder else ()
        self._say, self._told = say, False

    def wait(self, standby: bool, rest: Callable[[float], None]) -> str | None:
        """Wait until the master is gone. Returns why we may follow; None if there is another one, or none any more.

        Raises UserError if it lives, unless we are on standby.
        """
        start, pause, trouble = time.monotonic(), LOOK, Trouble(self._say)
        while True:
            try:
                why = self.look()
                trouble.is_over()
            except OSError as error:
                if not self._told:
                    raise
                trouble.is_there(error)
            else:
                if why is not None:
                    return why
                if self.number and (self.holder is None or self.masters.has_follower(self.number)):
                    return None
                if standby:
                    self._tell_once(f"{self.holder} leads; standing by until it ends or is silent for {self.lease:g} s")
                elif self.holder and self.holder.signature != self._first:
                    raise FolderIsLed(
                        f"{self.masters.folder.path}: {self.holder} is searching here; "
                        f"end that master first, wait for it with --standby, or use another --logs"
                    )
                elif time.monotonic() - start > SAY_AFTER:
                    self._tell_once(
                        f"no sign of life from {self.holder}; this master follows after {self.lease:g} s of silence "
                        f"(if you know that the other is gone: rm {self.masters.locate(self.number)})"
                    )
            rest(min(pause, self.lease / SIGNS_PER_LEASE))
            pause = min(1.5 * pause, LONGEST_LOOK)

    def look(self) -> str | None:
        """Look at the master's file. Returns why we may follow; None while the master may live."""
        if not self.number:
            return ""
        self._watch.look({self.number})
        self.holder = self.masters.holder(self.number)
        if self.holder is None:
            return None
        if not self.holder.is_file:
            return "is none"
        if self.holder.last_word:
            return "has ended"
        if has_died(self.holder.claim):
            return "has died"
        if self._watch.silence(self.number, self.holder.signature) > self.lease:
            return f"has given no sign of life for {self.lease:g} s"
        return None

    def announce(self, why: str) -> None:
        """Say that we follow, if we had to wait for it."""
        if self._told:
            self._say(f"{self.masters.folder.path}: {self.holder} {why}; this master leads now")

    def see_off(self, mastership: Mastership) -> None:
        """Make sure that the master before us is gone, now that we lead.

        If it has come back to life at the same moment, it soon sees our file, and ends.
        """
        while self.look() is None and self.holder:
            time.sleep(LOOK)
            mastership.check()
        self.masters.tell(self.number, mastership.owner)

    def _tell_once(self, message: str) -> None:
        if not self._told:
            self._told = True
            self._say(f"{self.masters.folder.path}: {message}")


def open_folder(
    folder: Folder,
    study: Study,
    patience: float = 0.0,
    say: Callable[[str], None] = print,
    *,
    change: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Folder:
    """Make the folder ready for this study. Raises StudyError, naming the differences, if another has begun in it.

    Args:
        patience: seconds to wait for the definition of a study that has begun; its file server may be away.
        change: make the study there what this one is, if it may become that.
    """
    logs = folder.path
    folder.prepare()
    record = wait_for_definition(folder, patience, say, pause)
    if record is None:
        return folder
    names = [*folder.names(), *folder.settled(), *folder.withdrawn()]
    there = study_from_record(record, str(folder.study_file()))
    study = with_strategy_of(there, study)
    differing = differences(there, study)
    if differing and not change:
        raise StudyError(
            f"{logs}: another study has begun here; it differs in {', '.join(differing)}; "
            f"use another --logs, change it back, or change the study here with --change"
        )
    check_beginning(folder, there, study, say)
    told: list[str] = []
    study = changed(folder, there, study, told.append) if differing else successor(there, study)
    beyond = max((name.number for name in names if name.number < min(there.most_trials, FIRST)), default=-1)
    if beyond >= study.most_trials:
        of = f" of {there.trials}" if there.trials else ""
        raise StudyError(
            f"{logs}: has begun with trial {beyond}{of} already, more than the {study.trials} asked for now; "
            f"continue with --trials {there.trials or beyond + 1}, or use another --logs"
        )
    if differing:
        folder.write_study(study.to_record())
    for line in told:
        say(line)
    renew_pending(folder, study)
    return folder


def continued(folder: Folder, study: Study) -> Study:
    """The study with what its folder says besides: what it began with, and its changes."""
    record = folder.read_study()
    return successor(study_from_record(record, str(folder.study_file())), study) if record else study


def check_beginning(folder: Folder, there: Study, study: Study, say: Callable[[str], None]) -> None:
    """Raise StudyError if we were told what to begin with, and the study there began without it."""
    for told, began, what in (
        (study.first, there.first, "settings to try first"),
        (study.known, there.known, "results of --from"),
    ):
        if told and not began:
            raise StudyError(f"{folder.path}: has begun without {what}; leave them out, or use another --logs")
        if told and told != began:
            say(f"{folder.path}: has begun with other {what}, so those of now are left out")


def wait_for_definition(
    folder: Folder, patience: float, say: Callable[[str], None], pause: Callable[[float], None]
) -> Record | None:
    """What study.json says; None if no study has begun. Raises StudyError if it has, and study.json does not come."""
    end, told = time.monotonic() + patience, False
    while (record := folder.read_study()) is None:
        if all(name.state == "pending" for name in (*folder.names(), *folder.settled())):  # queued by a person
            return None
        if time.monotonic() >= end:
            raise StudyError(f"{folder.path}: holds trials but no study.json; put it back, or use another --logs")
        if not told:
            told = True
            say(f"{folder.path}: holds trials but no study.json; waiting {patience:g} s, in case a file server is away")
        pause(LONGEST_LOOK)
    return record
