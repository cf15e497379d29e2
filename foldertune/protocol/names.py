"""Every name in the folder: trials in their states, owners, masters, workers, and temporary files."""

from __future__ import annotations

import functools
import os
import random
import re
from dataclasses import dataclass

from foldertune.protocol.hosts import LETTERS, MARK, own_host, own_place

PAUSE, DRAIN, STOP, END = "pause", "drain", "stop", "end"  # what a person asks of all: see requests.py
HALTS = (STOP, DRAIN, PAUSE)  # those that halt workers, the strongest first
DROPPED = "dropped"  # the directory of marks on single trials: see drops.py
LAST_MASTER = 999_999_999  # the highest number of a master
MAX_STEM = 120  # bytes of a file's name that go into its temporary name

_TRIAL = re.compile(
    r"trial-(\d{5,12})-(\d{1,9})\.jsonl(?:\.([A-Za-z0-9_-]+)\.(taken)|\.(done|seen|lost|withdrawn|stop))?", re.ASCII
)
_MASTER = re.compile(r"\.master-(\d{5,9})\.jsonl", re.ASCII)
_TEMPORARY = re.compile(
    r"\.(?:(?P<name>.+)\.(?P<writer>[A-Za-z0-9_-]+-\d+-[a-z0-9]{8,})\.tmp"
    r"|(?P<master>master-\d{5,9})\.(?P<newcomer>[A-Za-z0-9_-]+-\d+-[a-z0-9]{8,})-tmp)",
    re.ASCII,
)
_WORKER = re.compile(r"([A-Za-z0-9_-]+-\d+-[a-z0-9]{8,})\.json", re.ASCII)
_WRITTEN = re.compile(  # what is written in the folder
    rf"(trial-|\.master[.-]|study\.json|results\.csv|launch).*|pause|drain|stop|end|{_WORKER.pattern}",
    re.ASCII,
)
LAST_ATTEMPT = 999_999_999  # the highest number of an attempt


@dataclass(frozen=True)
class TrialName:
    """One attempt at one trial, in one state: everything that the name of its file says."""

    number: int
    attempt: int
    state: str = "pending"  # pending, taken, done, seen, lost or withdrawn; or "stop", which is a request, see Folder
    owner: str = ""  # of a taken trial: host-pid-random

    def __str__(self) -> str:
        text: str | None = self.__dict__.get("text")
        if text is None:  # a `cached_property` takes a lock, which costs more than this text
            text = self.__dict__["text"] = self._spell()
        return text

    def _spell(self) -> str:
        stem = f"trial-{self.number:05d}-{self.attempt}.jsonl"
        if self.state == "pending":
            return stem
        return f"{stem}.{self.owner}.taken" if self.state == "taken" else f"{stem}.{self.state}"

    @classmethod
    @functools.lru_cache(maxsize=2**14)  # a master reads the same names in one listing after another
    def parse(cls, text: str) -> TrialName | None:
        """The name that `text` spells, or None if it is not a trial's. Each name has only one valid spelling."""
        match = _TRIAL.fullmatch(text)
        if not match:
            return None
        number, attempt, owner, taken, settled = match.groups()
        name = cls(int(number), int(attempt), taken or settled or "pending", owner or "")
        return name if str(name) == text else None

    def to(self, state: str, owner: str = "") -> TrialName:
        """The same attempt in another state."""
        return TrialName(self.number, self.attempt, state, owner)

    def next_attempt(self) -> TrialName:
        """The pending name under which the trial is tried again."""
        return TrialName(self.number, self.attempt + 1)

    @property
    def label(self) -> str:
        """For people: `7`, or `7 (attempt 2)`."""
        return f"{self.number}" if self.attempt == 1 else f"{self.number} (attempt {self.attempt})"


def new_owner() -> str:
    """A token that no other process has: host-pid-random. The first letters of the last part mark the place."""
    letters = "".join(random.SystemRandom().choices(LETTERS, k=4))
    return f"{own_host()}-{os.getpid()}-{own_place()}{letters}"


def temporary_name(name: str) -> str:
    """The temporary name of a file while this process writes it: `.NAME.HOST-PID-RANDOM.tmp`."""
    stem = name.encode(errors="surrogateescape")[:MAX_STEM].decode(errors="ignore")
    return f".{stem}.{_new_writer()}.tmp"


def _new_writer() -> str:
    return f"{own_host()}-{os.getpid()}-{own_place()}{random.getrandbits(32):08x}"


def writer_of(text: str) -> str | None:
    """The token of the process that writes this temporary file; None if `text` is no such name of ours."""
    match = _TEMPORARY.fullmatch(text)
    if match and (match["newcomer"] or _WRITTEN.fullmatch(match["name"])):
        return match["newcomer"] or match["writer"]
    return None


def written_name(text: str) -> str | None:
    """The name that this temporary file will have; None if `text` is no such name of ours."""
    match = _TEMPORARY.fullmatch(text)
    if match and match["master"]:
        return f".{match['master']}.jsonl"
    return match["name"] if match and _WRITTEN.fullmatch(match["name"]) else None


def master_name(number: int) -> str:
    """The name of the file that a folder's `number`-th master has made."""
    return f".master-{number:05d}.jsonl"


def master_draft_name(number: int) -> str:
    """The temporary name of that file, before it gets its own by a hard link.

    GlusterFS chooses the server of a file by its name, but where a name begins with a dot, without that and without
    what follows the last one (its `cluster.rsync-hash-regex`). By these names all drafts are on the server of the
    file itself. Of two on two servers, each may be given the name: then two masters lead.
    """
    return f".master-{number:05d}.{_new_writer()}-tmp"


def master_number(text: str) -> int | None:
    """The number of the master that has made a file of this name; None if none has."""
    match = _MASTER.fullmatch(text)
    return int(match[1]) if match and master_name(int(match[1])) == text else None


def worker_file(owner: str) -> str:
    """The name of the file in `workers/` in which this worker says who it is."""
    return f"{owner}.json"


def worker_of(text: str) -> str | None:
    """The token of the worker that has made a file of this name; None if none has."""
    match = _WORKER.fullmatch(text)
    return match[1] if match else None


def is_here(token: str) -> bool:
    """Does the process with this token run on this host, in this boot and pid namespace, or did it?

    Also False for tokens of versions that did not mark the place.
    """
    before, _, last = token.rpartition("-")
    return (before.rpartition("-")[0], last[:MARK]) == (own_host(), own_place()) and len(last) > MARK


def is_same_process(token: str, other: str) -> bool:
    """Do both tokens come from one process? It may have drawn several: one as an owner, one for each file it wrote."""
    length = len(token.rpartition("-")[0]) + 1 + MARK
    return token[:length] == other[:length] and min(len(token), len(other)) > length


def pid_of(token: str) -> int | None:
    """The process number in a token; None if the token is not of the form host-pid-random."""
    pid = token.rpartition("-")[0].rpartition("-")[2]
    return int(pid) if pid.isdecimal() and pid.isascii() and 0 < int(pid) < 2**31 else None
