"""Who leads the folder: one master after another, each by a lease that needs no lock.

    logs/.master-00003.jsonl      the third master of this folder; the last number leads
    {"claimed": "gpu07-4711-k3f9", "host": "gpu07", "pid": 4711, …, "lease": 180}    it says who it is,
    {"ended": "2026-11-25T21:14:07.512Z"}                          and that it has ended, or who has followed it

**To lead is to make the next number's file.** `link` gives a whole file a name, or fails if the name is there, whatever
a client's cache believes: so each number has one owner, for ever. A master changes the time of its file every second.
A newcomer follows it only if it has said that it ended, if its process is gone, or if the file has not changed for
the master's lease while the newcomer watched.

**A master that comes back too late** knows by its own clock that its lease may be over: before each change it asks
whether less than half of it has passed since its last sign of life. If not, it gives one, and only then looks whether
somebody has followed it. A follower makes its file first, and then looks for a last sign of life. So at least one of
the two sees the other.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from foldertune.errors import UserError
from foldertune.protocol.files import (
    SAFE,
    BrokenFile,
    append_lines,
    is_there,
    remove,
    status_of,
    write_all,
    write_whole,
)
from foldertune.protocol.folder import Folder, LeaseLost, signature_of
from foldertune.protocol.names import LAST_MASTER, master_draft_name, master_name, master_number
from foldertune.protocol.owners import describe_owner
from foldertune.protocol.proposal import Record
from foldertune.protocol.rights import share
from foldertune.protocol.trial import read_records, to_line, utc_now

KEPT = 10  # files of earlier masters that are kept, for people
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.EMLINK}

P = ParamSpec("P")
T = TypeVar("T")


class MastershipLost(UserError):
    """Another master leads the folder now."""


class Holder(NamedTuple):
    """One master's file, as read now."""

    claim: Record  # who it is; empty if that can't be read
    last_word: Record  # that it has ended, or who has followed it; empty while it leads
    signature: tuple[int, ...]  # changes with every sign of life
    is_file: bool  # if not, a person has put it there

    def is_led_by(self, owner: str) -> bool:
        """Is this the file of that master, and does it still lead?"""
        return self.claim.get("claimed") == owner and not self.last_word

    def __str__(self) -> str:
        if not self.claim:
            return "another master"
        return f"process {self.claim.get('pid')} on {self.claim.get('host')} (since {self.claim.get('time')})"


class Masters:
    """The files of a folder's masters. Every method raises OSError while the filesystem is in trouble."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def locate(self, number: int) -> str:
        """The path of that master's file."""
        return f"{self.folder.path}/{master_name(number)}"

    def newest(self) -> int:
        """The number of the last master; 0 if there was none. This is one listing: a later one may exist."""
        return max(self._numbers(), default=0)

    def holder(self, number: int) -> Holder | None:
        """That master's file; None if it is gone. It is opened anew each time: that makes NFS ask the server."""
        path, records = self.locate(number), list[Record]()
        with contextlib.suppress(BrokenFile, FileNotFoundError):
            records = read_records(path)
        try:
            signature, mode = signature_of(path), status_of(path).st_mode
        except FileNotFoundError:
            return None
        claim = records[0] if records and isinstance(records[0].get("claimed"), str) else {}
        last = next((record for record in records[1:] if record.keys() & {"ended", "followed"}), {})
        return Holder(claim, last, signature, stat.S_ISREG(mode))

    def follow(self, number: int, owner: str, lease: float) -> Mastership | None:
        """Lead, after the master with this number. None if somebody else follows it."""
        following = number + 1
        if following > LAST_MASTER:
            raise UserError(f"{self.locate(number)}: no number can follow; move it away")
        mastership = Mastership(self, following, owner, lease)  # its clock starts before its file is seen
        if not self._make(following, owner, to_line({**describe_owner(owner), "lease": lease})):
            return None
        numbers = self._numbers()
        if max(numbers, default=0) > following:  # we were slow: others have come and gone, and their files are removed
            return None
        for old in numbers:
            if old <= following - KEPT:
                remove(self.locate(old))
        return mastership

    def tell(self, number: int, owner: str) -> None:
        """Write into a master's file who has followed it. The file is a new one: no cache can hide that for long."""
        holder = self.holder(number)
        if holder and holder.is_file and holder.claim and not holder.last_word:
            with contextlib.suppress(OSError):  # the next number's file says so, too
                write_whole(
                    self.locate(number), to_line(holder.claim) + to_line({"followed": owner, "time": utc_now()})
                )

    def followed(self) -> list[str]:
        """The tokens of earlier masters: each has ended, is dead, or asks before its next change whether it leads."""
        holders = [self.holder(number) for number in sorted(self._numbers())[:-1]]
        return [holder.claim["claimed"] for holder in holders if holder and holder.claim]

    def has_follower(self, number: int) -> bool:
        """Is there a next master?"""
        return is_there(self.locate(number + 1))

    def _numbers(self) -> list[int]:
        return [number for text in os.listdir(self.folder.path) if (number := master_number(text)) is not None]

    def _make(self, number: int, owner: str, data: bytes) -> bool:
        """Make that number's file, unless there is one. True if it is ours."""
        path = self.locate(number)
        temporary = f"{self.folder.path}/{master_draft_name(number)}"
        try:
            _write_new(temporary, data)
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                _write_new(path, data)  # if we die before it is whole, the next master waits for a lease
        except OSError as error:
            holder = self.holder(number)  # the reply to a success may have been lost
            if holder and holder.claim.get("claimed") == owner:
                return True
            if error.errno == errno.EEXIST:
                return False
            raise
        finally:
            remove(temporary)
        return True


def own_clock() -> float:
    """Seconds of a monotonic clock that goes on while a laptop sleeps, if there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Mastership:
    """One master's hold on the folder.

    Args:
        lease: the seconds of silence after which a newcomer follows.
    """

    def __init__(
        self,
        masters: Masters,
        number: int,
        owner: str,
        lease: float,
        clock: Callable[[], float] = own_clock,
    ) -> None:
        self.masters, self.number, self.owner, self.lease = masters, number, owner, lease
        self.path = masters.locate(number)
        self._clock, self._renewed = clock, clock()
        self._loss = ""  # why we lead no longer

    def check(self) -> None:
        """Make sure that we lead; to be called before each change. Raises MastershipLost, from then on each time."""
        if not self._loss and self._clock() - self._renewed > self.lease / 2:
            with contextlib.suppress(LeaseLost):
                self.beat()
        if self._loss:
            raise MastershipLost(self._loss)

    def beat(self) -> None:
        """Give a sign of life, and then look whether somebody has followed. Raises LeaseLost, or OSError if unsure."""
        now = self._clock()
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path, follow_symlinks=False)
        holder = self.masters.holder(self.number)
        if holder is None and self.masters.newest() <= self.number:  # on a file server that is away?
            self.masters.folder.check_presence()
            raise FileNotFoundError(errno.ENOENT, "is gone; if it stays away, start this master again", self.path)
        if holder and holder.is_led_by(self.owner) and not self.masters.has_follower(self.number):
            self._renewed = now
            return
        self._loss = self._explain(holder)
        raise LeaseLost(self.path)

    def end(self) -> None:
        """Say that we lead no longer, so that nobody waits for us: no newcomer, and not who has followed us."""
        with contextlib.suppress(OSError):
            holder = self.masters.holder(self.number)
            if holder and holder.is_led_by(self.owner):
                append_lines(self.path, to_line({"ended": utc_now()}))

    def _explain(self, holder: Holder | None) -> str:
        leader: object = holder.last_word.get("followed") if holder else None  # by its token, if we can't read more
        with contextlib.suppress(OSError):
            newest = self.masters.holder(self.masters.newest())
            if newest and newest.claim.get("claimed") != self.owner:
                leader = newest
        if not leader:
            return f"{self.path}: is {'changed' if holder else 'gone'}, so this master ends; start it again"
        return (
            f"{self.masters.folder.path}: this master gave no sign of life for its lease of {self.lease:g} s; "
            f"{leader} has followed it, and leads now"
        )


# ---------------------------------------------------------------- the folder of a master


def _if_leading(method: Callable[Concatenate[Folder, P], T]) -> Callable[Concatenate[LedFolder, P], T]:
    """The same method, if this process leads."""

    @functools.wraps(method)
    def only_if_leading(self: LedFolder, /, *arguments: P.args, **options: P.kwargs) -> T:
        self.mastership.check()
        return method(self, *arguments, **options)

    return only_if_leading


class LedFolder(Folder):
    """The folder in the hands of its master: before each look and each change it makes sure that it still leads."""

    def __init__(self, path: Path | str, mastership: Mastership) -> None:
        super().__init__(path)
        self.mastership = mastership

    names = _if_leading(Folder.names)
    prepare = _if_leading(Folder.prepare)
    publish = _if_leading(Folder.publish)
    collect = _if_leading(Folder.collect)
    lose = _if_leading(Folder.lose)
    withdraw = _if_leading(Folder.withdraw)
    ask_to_stop = _if_leading(Folder.ask_to_stop)
    drop_request = _if_leading(Folder.drop_request)
    record_failure = _if_leading(Folder.record_failure)
    retry = _if_leading(Folder.retry)
    set_aside = _if_leading(Folder.set_aside)
    write_study = _if_leading(Folder.write_study)
    write_results = _if_leading(Folder.write_results)
    complete_study = _if_leading(Folder.complete_study)
    stir = _if_leading(Folder.stir)
    remove_temporary = _if_leading(Folder.remove_temporary)
    remove_checkpoints = _if_leading(Folder.remove_checkpoints)
    checkpoint_sizes = _if_leading(Folder.checkpoint_sizes)


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o666)
    try:
        share(descriptor, os.path.dirname(path))
        write_all(descriptor, data)
    finally:
        os.close(descriptor)
