"""Explores the folder protocol: every order of events in a small study.

    python -m tests.explorers.model            one trial with any one fault, two trials with none
    python -m tests.explorers.model --long     and one trial with any two faults (eight minutes)
    python -m tests.explorers.model --promotions  a trial, and one that goes on with it
    python -m tests.explorers.model --masters  two masters, of which one is suspended and comes back
    python -m tests.explorers.model --stopping a master that asks workers to stop early, or does not

It explores the real code: `Worker.try_to_claim`, `Worker.train` and `Master.step` over foldertune/protocol/, with
an `os` that asks the explorer at every call. A process is a function of the answers to its system calls. To find out
what it does next, we run it again from its last rest, give it the answers that it had, and stop it at the first call
without an answer (VeriSoft, too, re-executes real code: Godefroid, POPL 1997; but here each process runs by itself,
once for every history of answers, not once for every order of all of them). What remains is a graph of small
tuples. It is searched breadth first, as in Spin (Holzmann, 1997), so the printed counterexample is a shortest one.

At every call any process may be next. At every call one of FAULTS may strike, up to the given number of faults.
`docs/protocol.md` says what is modelled and what is not.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import errno
import functools
import json
import math
import os
import posixpath
import re
import stat
import sys
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from foldertune.budget import Budget
from foldertune.fidelity import Fidelity
from foldertune.protocol import (
    Claim,
    Folder,
    LedFolder,
    Masters,
    MastershipLost,
    Proposal,
    Record,
    TrialName,
    files,
    leases,
    names,
)
from foldertune.protocol import folder as folder_module
from foldertune.protocol import masters as masters_module
from foldertune.running import attempt as attempt_module
from foldertune.running import ending as ending_module
from foldertune.running import housekeeping as housekeeping_module
from foldertune.running import master as master_module
from foldertune.running import stopper as stopper_module
from foldertune.running import trainer as trainer_module
from foldertune.running import watch as watch_module
from foldertune.running import worker as worker_module
from foldertune.running.confirming import Confirming
from foldertune.running.remote import Remote
from foldertune.space import Float
from foldertune.stopping import Stopping
from foldertune.strategies import Answer, History
from foldertune.strategies.schedules import SCHEDULES, AshaSchedule
from foldertune.study import Study

LOGS = "logs"
ON_DISK = (names, files, folder_module)  # modules of the protocol whose `os` is the explorer's
DIRECTORIES = (LOGS, f"{LOGS}/seen", f"{LOGS}/checkpoints", f"{LOGS}/workers")
FAULTS = {
    "kill": "a process ends at any call, as by kill -9; another is started in its place",
    "reply": "a rename succeeds, but its reply is lost, and its repetition finds the source gone (ENOENT)",
    "repeat": "a rename is executed once more, any time later: a server that forgot that it had seen the request",
    "late": "a rename fails (EIO) after a time-out, and is executed all the same, any time later",
    "expire": "a lease expires although its worker lives: it was only slow",
    "preempt": "a worker is told to stop and gives its trial back",
    "crash": "a trainer dies, and its worker hands in the reason",
    "power": "the power fails: all processes end, and what was not synced is gone from the files",
    "short": "a `.done` is read as it was before its last line: a client's cache",
    "old": "a name goes on to answer after its file was renamed: a client's cache",
}
MORE_FAULTS = {
    "omit": "a listing lacks one name that is there (not among FAULTS: see docs/protocol.md)",
    "usurp": "a master is followed although it lives: it was suspended past its lease, and comes back",
}
MASTERS = ("master", "second")

Operation = tuple[Any, ...]  # its name, then its arguments
Names = tuple[tuple[str, int], ...]


# ---------------------------------------------------------------- the disk


class Failure(NamedTuple):
    """The answer of a system call that failed."""

    errno: int


class File(NamedTuple):
    """The contents of a file, and the part that is on stable storage."""

    data: bytes
    synced: int = 0
    once: frozenset[str] = frozenset()  # the trial's names that it had before


class Disk(NamedTuple):
    """A filesystem at one moment. Each method is one system call: (the disk after it, its answer)."""

    names: Names
    files: tuple[File, ...] = ()  # by inode, never used twice

    def open(self, path: str, creating: int) -> tuple[Disk, Any]:
        names = dict(self.names)
        if path in names:
            return self, Failure(errno.EEXIST) if creating & os.O_EXCL else names[path]
        if not creating & os.O_CREAT:
            return self, Failure(errno.ENOENT)
        names[path] = len(self.files)
        return Disk(_sorted(names), (*self.files, File(b""))), names[path]

    def size(self, inode: int) -> tuple[Disk, int]:
        return self, len(self.files[inode].data)

    def read(self, inode: int) -> tuple[Disk, bytes]:
        return self, self.files[inode].data

    def peek(self, inode: int, size: int, offset: int) -> tuple[Disk, bytes]:
        return self, self.files[inode].data[offset : offset + size]

    def write(self, inode: int, data: bytes) -> tuple[Disk, int]:
        before = self.files[inode]
        return self._with(inode, before._replace(data=before.data + data)), len(data)

    def truncate(self, inode: int, size: int) -> tuple[Disk, None]:
        before = self.files[inode]
        return self._with(inode, before._replace(data=before.data[:size], synced=min(before.synced, size))), None

    def sync(self, inode: int) -> tuple[Disk, None]:
        before = self.files[inode]
        return self._with(inode, before._replace(synced=len(before.data))), None

    def rename(self, source: str, target: str) -> tuple[Disk, Any]:
        names = dict(self.names)
        if source not in names:
            return self, Failure(errno.ENOENT)
        inode = names[target] = names.pop(source)
        if not source.endswith("tmp"):
            before = self.files[inode]
            return Disk(_sorted(names), self._with(inode, before._replace(once=before.once | {source})).files), None
        return Disk(_sorted(names), self.files), None

    def link(self, source: str, target: str) -> tuple[Disk, Any]:
        names = dict(self.names)
        if target in names:
            return self, Failure(errno.EEXIST)
        if source not in names:
            return self, Failure(errno.ENOENT)
        names[target] = names[source]
        return Disk(_sorted(names), self.files), None

    def unlink(self, path: str) -> tuple[Disk, Any]:
        names = dict(self.names)
        answer = None if names.pop(path, None) is not None else Failure(errno.ENOENT)
        return Disk(_sorted(names), self.files), answer

    def status(self, path: str) -> tuple[Disk, Any]:
        inode = dict(self.names).get(path)
        return self, Failure(errno.ENOENT) if inode is None else (inode, len(self.files[inode].data))

    def listdir(self, path: str) -> tuple[Disk, tuple[str, ...]]:
        paths = [*(name for name, _ in self.names), *DIRECTORIES]
        texts = sorted(posixpath.basename(p) for p in paths if posixpath.dirname(p) == path)
        return self, tuple(text for text in texts if not text.startswith(".master-"))

    def list_masters(self, path: str) -> tuple[Disk, tuple[str, ...]]:
        names = (posixpath.basename(name) for name, _ in self.names)
        return self, tuple(name for name in names if name.startswith(".master-"))

    def names_of(self, inode: int) -> list[str]:
        """The names of a file: one, or none."""
        return [path for path, number in self.names if number == inode]

    def moved(self, path: str) -> int | None:
        """The file that once had this name, as a cache may remember it."""
        same = [inode for inode, file in enumerate(self.files) if path in file.once]
        return same[0] if len(same) == 1 else None

    def after_power_failure(self) -> Disk:
        return Disk(self.names, tuple(file._replace(data=file.data[: file.synced]) for file in self.files))

    def _with(self, inode: int, file: File) -> Disk:
        return Disk(self.names, (*self.files[:inode], file, *self.files[inode + 1 :]))


def _sorted(names: dict[str, int]) -> Names:
    return tuple(sorted(names.items()))


def is_private(disk: Disk, operation: Operation) -> bool:
    """Can no other process notice when this call happens? Then it need not be a step of its own.

    Calls on temporary files are private, because only their writer touches them; so are questions about one's own file,
    and about a master's file that is there: it stays as it is.
    """
    kind, *arguments = operation
    if kind in ("open", "status") and (arguments[0], ".master-" in arguments[0]) in {(n, True) for n, _ in disk.names}:
        return True
    if kind == "read" and any(".master-" in path for path, inode in disk.names if inode == arguments[0]):
        return True
    if kind in ("size", "peek"):
        return True
    if kind in ("open", "unlink"):
        return bool(arguments[0].endswith("tmp"))
    if kind in ("write", "sync"):
        return all(path.endswith("tmp") for path, inode in disk.names if inode == arguments[0])
    return kind == "listdir" and arguments[0] in (f"{LOGS}/checkpoints", f"{LOGS}/workers")


# ---------------------------------------------------------------- the processes


class Pause(BaseException):
    """A process is at a call that has no answer yet."""


class NotFaked(BaseException):
    """The code uses a part of `os` that the model does not have. Add it to System."""


class System:
    """Replaces `os` in a process. Its answers are given beforehand; the process stops at the first missing answer."""

    def __init__(self, life: int, history: tuple[Any, ...], who: str = "master") -> None:
        self.is_master, self.is_sure = who in MASTERS, False  # has it looked for a follower since its last change?
        self.pid, self.owner = life + 100 * (who == "second"), owner_token(who, life)
        self.pending: Operation | None = None
        self.notes: list[Operation] = []  # what the process has come to believe since its last call
        self.path = SimpleNamespace(
            **{name: getattr(posixpath, name) for name in ("join", "split", "basename", "dirname")},
        )
        self._life, self._history, self._answered = life, history, 0
        self._open: list[list[Any]] = []  # by descriptor: inode, and what is left to read (None: not yet asked)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("O_") or name in ("fspath", "strerror"):
            return getattr(os, name)
        raise NotFaked(f"os.{name}: tests/explorers/model.py has no such function; add it to System")

    def _ask(self, *operation: Any) -> Any:
        if self.pending is not None or self._answered == len(self._history):
            self.pending = self.pending or operation  # what it does in a `finally` on its way out is no call
            raise Pause
        answer = self._history[self._answered]
        self._answered += 1
        if isinstance(answer, Failure):
            raise OSError(answer.errno, os.strerror(answer.errno), *map(str, operation[1:2]))
        return answer

    def choose(self, *question: Any) -> bool:
        """Let the explorer decide, both ways."""
        return bool(self._ask("choose", *question))

    def note(self, *belief: Any) -> None:
        """Tell the explorer a fact that this process believes from now on."""
        if self._answered == len(self._history):
            self.notes.append(belief)

    def getpid(self) -> int:
        return self.pid

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        path = self._whole(path, dir_fd)  # of a directory: nothing replaces it here, so that is no step
        inode = path if path in DIRECTORIES else self._ask("open", path, flags & (os.O_CREAT | os.O_EXCL))
        self._open.append([inode, None])
        return len(self._open) - 1

    def _whole(self, path: Any, dir_fd: int | None) -> str:
        return str(path) if dir_fd is None else f"{self._open[dir_fd][0]}/{path}"

    def close(self, descriptor: int) -> None:
        pass

    def read(self, descriptor: int, size: int) -> bytes:
        file = self._open[descriptor]
        if file[1] is None:  # one call: what would be appended before a second may as well have come before the first
            file[1] = self._ask("read", file[0])
        part, file[1] = file[1][:size], file[1][size:]
        return part

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return self._ask("peek", self._open[descriptor][0], size, offset)

    def write(self, descriptor: int, data: Any) -> int:
        return self._ask("write", self._open[descriptor][0], bytes(data))

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._ask("truncate", self._open[descriptor][0], size)

    def fsync(self, descriptor: int) -> None:
        self._ask("sync", self._open[descriptor][0])

    def fstat(self, descriptor: int) -> Any:
        inode = self._open[descriptor][0]
        return _status(inode, self._ask("size", inode))

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> Any:
        path = self._whole(path, dir_fd)
        if path in DIRECTORIES:
            return SimpleNamespace(st_mode=stat.S_IFDIR)
        try:
            return _status(*self._ask("status", path))
        except FileNotFoundError:
            self.is_sure |= ".master-" in path
            raise

    stat = lstat

    def rename(self, source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        self._ask("rename", self._whole(source, src_dir_fd), self._whole(target, dst_dir_fd))
        if self.is_master and not self.is_sure:
            self.note("unsure")
        self.is_sure = False

    def link(self, source: Any, target: Any) -> None:
        self._ask("link", str(source), str(target))
        self.note("leads", self.owner, names.master_number(posixpath.basename(str(target))))

    def utime(self, path: Any, **_: Any) -> None:
        pass  # the explorer knows who lives

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._ask("unlink", self._whole(path, dir_fd))

    def listdir(self, path: Any) -> list[str]:
        return list(self._ask("listdir", self._open[path][0] if isinstance(path, int) else str(path)))


class MastersSystem:
    """The same for the module that asks who leads. It lists only masters' files: all others are one to it."""

    def __init__(self, system: System) -> None:
        self._system = system

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)

    def listdir(self, path: Any) -> list[str]:
        return list(self._system._ask("list_masters", str(path)))


def _status(inode: int, size: int) -> Any:
    return SimpleNamespace(
        st_mode=stat.S_IFREG, st_ino=inode, st_size=size, st_mtime_ns=0, st_nlink=1, st_uid=os.geteuid()
    )


class Place(PurePosixPath):
    """Replaces `Path` in a process."""

    def mkdir(self, **_: Any) -> None:
        pass  # all are there

    def exists(self) -> bool:
        return str(self) in DIRECTORIES or files.is_there(str(self))


def system() -> System:
    """The replacement of `os` in the process that runs now."""
    return files.os  # type: ignore[return-value]


class ModelTrainer(trainer_module.Trainer):
    """A trainer of some epochs. It may die in the first; or its worker may be told to stop."""

    def __init__(self, signals: Any, owner: str, epochs: int) -> None:
        super().__init__(signals, "cpu", None)
        self.owner, self.epochs = owner, epochs
        self.said: list[Record] = []

    def begin(self, name: TrialName, settings: Record, checkpoint_every: float, out: Any) -> None:
        reports = [{"report": {"epoch": epoch + 1, "by": self.owner, "loss": 0.5}} for epoch in range(self.epochs)]
        self.said = [*reports, {"result": {"loss": 0.5, "by": self.owner}}]
        if system().choose("preempt"):
            self._signals.number = 15
        elif system().choose("crash"):
            self.said = [{"error": "the training process was killed"}]

    def stop(self, how: str, grace: float) -> None:
        if how != "report" or not system().choose("whole"):  # or it comes to its end before it hears of it
            self.said = [{"stopped": True}]

    def end(self, seconds: float = 0.0) -> None:
        pass

    def next(self, until: float) -> Record | None:
        return self.said.pop(0)


class ModelSignals(SimpleNamespace):
    """The signals of a worker, as its explorer sends them."""

    def wait(self, seconds: float) -> bool:
        return bool(self.number)


class ModelWorker(worker_module.Worker):
    """The real worker, with a trainer that takes no time."""

    def __init__(self, owner: str, epochs: int, study: Study) -> None:
        signals: Any = ModelSignals(number=0, impatient=False, name="SIGTERM")
        super().__init__(Folder(LOGS), "model", ModelTrainer(signals, owner, epochs), signals)
        self.owner, self.metrics, self.study = owner, ["loss"], {"stopping": study.stopping} if study.stopping else {}

    def _finish(self, flush: bool = True) -> None:
        before, claim = self._results, self._trained and self._trained[0]
        super()._finish(flush)
        if claim:
            self.note("handed in" if self._results > before else "dropped", claim)

    def note(self, kind: str, claim: Claim) -> None:
        """Tell the explorer what this worker believes of a claim."""
        system().note(kind, self.owner, claim.name.number, claim.name.attempt)

    def remember(self, memory: Any) -> None:
        """Go on from there: the names not tried yet, and the trial that is not handed in yet."""
        candidates, trained = memory or ((), None)
        self._candidates = iter(candidates)
        if trained:
            claim = copy.copy(trained[0])
            claim.folder = self.folder
            self._trained = (claim, *trained[1:])

    def memory(self) -> tuple[Any, str]:
        """What it would remember, and the same in words."""
        candidates, claim = tuple(self._candidates), self._trained and self._trained[0]
        known = {key: value for key, value in vars(claim).items() if key not in ("folder", "_since")} if claim else None
        return (candidates, self._trained), f"{candidates} {known}" if candidates or known else ""

    def say(self, message: str, *, flush: bool = True) -> None:
        pass


class ModelMaster(master_module.Master):
    """The real master, except that it asks the explorer whether time has passed, and writes no results.csv."""

    def __init__(self, study: Study, max_attempts: int, folder: Folder, glances: int) -> None:
        super().__init__(folder, study, 0.0, max_attempts, say=lambda message: None)
        self.watch = ModelWatch(self.folder, 0.0)
        self.watch.glances = glances
        self.housekeeping._leftovers = ModelLeftovers(self.folder, 0.0)
        self.stopper = ModelStopper(self.folder, study, self.say)

    def write_results(self) -> None:
        self.results_file.is_old = False


class ModelStopper(stopper_module.Stopper):
    """The real stopper, with the explorer as its rule. It names the attempt that it wants to stop."""

    def note(self, trial: Any) -> None:
        pass

    def _read(self, taken: Iterable[TrialName]) -> None:
        self._running = {name: ((), stopper_module.Curve(())) for name in taken}

    def _why_stop(self, rule: Any, name: TrialName, curve: Any) -> str:
        return f"{name.number}-{name.attempt}" if system().choose("hopeless", name.number, name.attempt) else ""

    def remembered(self) -> str:
        """What it knows, in words."""
        return " ".join(sorted(map(str, self._asked)))


class ModelWatch(watch_module.Watch):
    """The real watch, with the explorer as its clock."""

    glances = 1

    def __init__(self, folder: Folder, lease: float) -> None:
        super().__init__(folder, lease)
        self.leases = self._absent = Oracle()

    def is_in_doubt(self, name: TrialName) -> bool:
        """As long as a cache may be old: each old answer is a fault."""
        looks = self._doubted.pop(name, 0.0)
        if looks < self.glances:
            self._doubted[name] = looks + 1
            return True
        return False

    def absences(self, numbers: Iterable[int]) -> dict[int, float]:
        vanished = {number: system().choose("vanished", number) for number in numbers}  # for longer than a lease?
        return {number: math.inf if is_vanished else 0.0 for number, is_vanished in vanished.items()}


class ModelLeftovers(leases.Leftovers):
    """The real leftovers at the start of a master. All of them were written by masters that died."""

    def look(self) -> None:
        pass

    def __repr__(self) -> str:
        return "Leftovers"


class Oracle:
    """Lets a lease expire when the explorer says so."""

    def look(self, current: set[TrialName]) -> None:
        pass

    def is_new(self, name: TrialName) -> bool:
        return False

    def forget(self, name: TrialName) -> None:
        pass

    def silence(self, name: TrialName, signature: tuple[int, ...]) -> float:
        return math.inf if system().choose("expired", name.owner) else 0.0

    def __repr__(self) -> str:
        return "Oracle"


class Rest(NamedTuple):
    """A process between two turns of its loop. There, everything that it remembers is known."""

    who: str
    life: int  # the how many-th process of that name
    memory: str  # in words: two who remember the same are the same


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Replace everything through which the real code reaches the outside world."""
    no_time = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda seconds: None)
    in_order = SimpleNamespace(sample=lambda texts, count: sorted(texts)[:count], getrandbits=lambda bits: 0)
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            *((module, "os", None) for module in (*ON_DISK, masters_module)),
            (folder_module, "Path", Place),
            (folder_module, "A_MOMENT", 0.0),
            (folder_module, "make_directory", lambda path: None),  # all are there
            (files, "share", lambda descriptor, directory: None),
            (folder_module, "random", in_order),
            (names, "random", in_order),
            (folder_module, "utc_now", lambda: "now"),
            (masters_module, "utc_now", lambda: "now"),
            (masters_module, "describe_owner", lambda owner: {"claimed": owner}),
            (leases, "owner_has_died", lambda owner: True),
            *((module, "time", no_time) for module in (master_module, watch_module, worker_module, attempt_module)),
            *((module, "time", no_time) for module in (stopper_module, housekeeping_module)),
            (folder_module, "time", no_time),  # a listing is always fresh
            (Remote, "begin", lambda remote, heartbeat: None),  # nobody asks for anything here
            (attempt_module, "LOOK_EVERY", 0.0),
            (worker_module, "describe_owner", lambda owner: {"claimed": owner, "by": owner}),
            (worker_module, "new_owner", lambda: ""),
            (attempt_module, "utc_now", lambda: "now"),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        stack.enter_context(mock.patch.dict(SCHEDULES, {EachGoesOn.__name__: EachGoesOn}))
        yield


HEARTBEAT: Any = SimpleNamespace(
    hold=lambda claim, lease: None, release=lambda: None, lost=SimpleNamespace(is_set=lambda: False)
)


class EachGoesOn(AshaSchedule):
    """Promotes each trial as soon as it is counted, and waits for the first: so two are enough for a promotion."""

    @property
    def factors(self) -> list[float]:
        return [1.0] * (len(self.rungs) - 1)

    def propose(self, number: int, history: History) -> Proposal | Answer:
        return Answer.WAIT if history.open and not history.counted else super().propose(number, history)


class Node(NamedTuple):
    """A process at a call: `operation` is None when it has ended."""

    rest: Rest
    history: tuple[Any, ...]
    notes: tuple[Operation, ...]
    operation: Operation | None


class Processes:
    """The next call of every process, by the answers that it has seen. Nodes are numbered."""

    def __init__(self, study: Study, max_attempts: int, epochs: int, masters: int = 1, glances: int = 1) -> None:
        self.nodes: list[Node] = []
        self._glances = glances
        self._study, self._max_attempts, self._epochs, self._masters = study, max_attempts, epochs, masters
        self._memories: dict[Rest, Any] = {}
        self._numbers: dict[Any, int] = {}

    def start(self, who: str, life: int) -> int:
        """A process that knows nothing yet."""
        return self._begin(Rest(who, life, ""), None)

    def answer(self, number: int, answer: Any) -> int:
        """The node that follows this answer to the pending call."""
        key = number, type(answer), answer  # 0 and False are different answers
        if key not in self._numbers:
            node = self.nodes[number]
            self._numbers[key] = self._run(node.rest, (*node.history, answer))
        return self._numbers[key]

    def _begin(self, rest: Rest, memory: Any) -> int:
        if rest not in self._numbers:
            self._memories[rest] = memory
            self._numbers[rest] = self._run(rest, ())
        return self._numbers[rest]

    def _run(self, rest: Rest, history: tuple[Any, ...]) -> int:
        system = System(rest.life, history, rest.who)
        for module in ON_DISK:
            module.os = system
        masters_module.os = MastersSystem(system)
        turn = self._master_turn if rest.who in MASTERS else self._worker_turn
        try:
            following, memory = turn(system, rest, self._memories[rest])
        except Pause:
            operation = system.pending
        except Exception as error:
            operation = ("crash", f"{type(error).__name__}: {error}")
        else:
            if following:
                node = self.nodes[self._begin(following, memory)]
                return self._number(node._replace(notes=(*system.notes, *node.notes)))
            operation = None
        return self._number(Node(rest, history, tuple(system.notes), operation))

    def _number(self, node: Node) -> int:
        if node not in self._numbers:
            self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return self._numbers[node]

    def _worker_turn(self, system: System, rest: Rest, memory: Any) -> tuple[Rest | None, Any]:
        """One turn of Worker.run: claim, train, and hand in what was trained before."""
        worker = ModelWorker(owner_token(rest.who, rest.life), self._epochs, self._study)
        worker.remember(memory)
        with contextlib.suppress(OSError):  # then it looks again
            claim = worker.try_to_claim()
            if claim:
                worker.note("holds", claim)
                try:
                    worker.train(claim, HEARTBEAT)
                    if not (worker._trained and worker._trained[0] is claim):
                        worker.note("dropped", claim)
                except worker_module.Stopped:
                    worker.note("dropped", claim)
                    with contextlib.suppress(OSError):
                        worker._finish()
                    return Rest(rest.who, rest.life + 1, ""), None
        memory, in_words = worker.memory()
        return Rest(rest.who, rest.life, in_words), memory

    def _master_turn(self, system: System, rest: Rest, before: Any) -> tuple[Rest | None, Any]:
        """One turn of the master's loop; the first makes it the master, the second takes stock."""
        if before is None and self._masters > 1:
            return self._turn_of_a_newcomer(system, rest)
        master, is_new = copy.deepcopy(before), not isinstance(before, ModelMaster)  # or the folder that it leads
        if is_new:
            master = ModelMaster(self._study, self._max_attempts, master or Folder(LOGS), self._glances)
        try:
            if is_new:
                master.take_stock()
            else:
                master.step()
        except OSError:
            if is_new:
                return rest, before
        except MastershipLost:
            system.note("leads no longer", owner_token(rest.who, rest.life))
            return None, None
        else:
            if not is_new and master.is_done():
                counted = master.ledger.in_order()
                names = [(trial.name.number, trial.name.attempt, trial.claim.get("claimed")) for trial in counted]
                system.note("done", tuple(names))
                system.note("leads no longer", owner_token(rest.who, rest.life))
                return None, None
        master.in_hand = []  # the next step begins with a new listing
        return Rest(rest.who, rest.life, repr(remembered(master))), master

    def _turn_of_a_newcomer(self, system: System, rest: Rest) -> tuple[Rest, Any]:
        """The real `Masters.follow`, when the explorer says that the master before is gone, or seems so."""
        owner, masters = owner_token(rest.who, rest.life), Masters(Folder(LOGS))
        number = masters.newest()
        if number and not system.choose("follow", number):
            return rest, None
        try:
            mastership = masters.follow(number, owner, 0.0)
        except OSError:
            mastership = None
        if mastership is None:
            return rest, None
        mastership._clock, mastership._renewed = Endless(), 0.0
        return Rest(rest.who, rest.life, f"leads {mastership.number}"), LedFolder(LOGS, mastership)


class Endless:
    """A clock for a master: whenever it looks, its lease may be over."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def remembered(thing: Any) -> dict[str, Any]:
    """Everything that a master or a part of it knows, except what never changes."""
    parts = (
        *(master_module.Supply, ending_module.Spending, ending_module.Ending, Confirming),
        *(master_module.ResultsFile, watch_module.Watch, master_module.Housekeeping),
    )
    fixed = ("folder", "_folder", "study", "say", "_say", "strategy", "dropping", "_held_since")  # nobody drops a trial
    known = {key: value for key, value in sorted(vars(thing).items()) if key not in fixed}
    if "stopper" in known:
        known["stopper"] = thing.stopper.remembered()
    if isinstance(getattr(thing, "folder", None), LedFolder):
        known["leads"] = thing.folder.mastership.number
    return {key: remembered(value) if isinstance(value, parts) else value for key, value in known.items()}


def owner_token(who: str, life: int) -> str:
    """The token in a worker's claims."""
    return who if life == 1 else f"{who}-{life}"


# ---------------------------------------------------------------- what must be true


class Beliefs(NamedTuple):
    """Facts that the processes have been told. A claim is (owner, trial, attempt)."""

    holds: frozenset[tuple[Any, ...]] = frozenset()
    handed_in: frozenset[tuple[Any, ...]] = frozenset()
    counted: tuple[tuple[Any, ...], ...] | None = None  # by the master, when it had done: (trial, attempt, owner)
    leads: frozenset[tuple[Any, ...]] = frozenset()  # (master, number)
    unsure: bool = False  # a master has changed the folder without a look whether it still leads

    def after(self, notes: tuple[Operation, ...]) -> Beliefs:
        """The beliefs after these notes."""
        holds, handed_in, counted, leads, unsure = self
        for kind, *claim in notes:
            if kind == "done":
                counted = claim[0]
            elif kind == "leads":
                leads |= {tuple(claim)}
            elif kind == "leads no longer":
                leads = frozenset(each for each in leads if each[0] != claim[0])
            elif kind == "unsure":
                unsure = True
            elif kind == "holds":
                holds |= {tuple(claim)}
            else:
                holds -= {tuple(claim)}
                handed_in |= {tuple(claim)} if kind == "handed in" else set()
        return Beliefs(holds, handed_in, counted, leads, unsure)

    def without(self, owners: Collection[str]) -> Beliefs:
        """The beliefs after the death of these processes: nobody holds their claims any more."""
        holds, leads = (frozenset(c for c in claims if c[0] not in owners) for claims in (self.holds, self.leads))
        return self._replace(holds=holds, leads=leads)


def story_of(data: bytes) -> list[Record]:
    """The whole lines of a file."""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def seen_files(disk: Disk) -> list[tuple[TrialName, list[Record]]]:
    """The files of counted trials."""
    return [
        (name, story_of(disk.files[inode].data))
        for path, inode in disk.names
        if (name := TrialName.parse(posixpath.basename(path))) and name.state == "seen"
    ]


def names_in_hand(disk: Disk) -> list[TrialName]:
    """The trials that are neither counted nor set aside."""
    names = [TrialName.parse(posixpath.basename(path)) for path, _ in disk.names]
    return [name for name in names if name and name.state in ("pending", "taken", "done")]


Counted = list[tuple[int, int, str | None]]  # trial, attempt, and who trained it


def counted_files(disk: Disk) -> Counted:
    """What the .seen files tell."""
    return [(name.number, name.attempt, _trained_by(story)) for name, story in seen_files(disk)]


def all_are_counted(seen: Counted, trials_asked: int) -> bool:
    """Has each trial asked for exactly one .seen file, and no other trial any?"""
    return sorted(number for number, _, _ in seen) == list(range(trials_asked))


def what_is_miscounted(seen: Counted, beliefs: Beliefs, lack: str) -> str | None:
    """A trial with two .seen files; at the end, what is lacking then, or a table that differs from the files."""
    if len({number for number, _, _ in seen}) < len(seen):
        return "a trial is counted twice"
    if beliefs.counted is None:
        return None
    return lack or (
        "the master's table and the .seen files differ" if sorted(seen) != sorted(beliefs.counted) else None
    )


def each_trial_is_counted_once(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """A trial never has two .seen files. At the end it has exactly one, and the master's table agrees."""
    seen = counted_files(disk)
    lack = "" if all_are_counted(seen, trials_asked) else "the study has ended, and a trial is not counted"
    return what_is_miscounted(seen, beliefs, lack)


def the_target_ends_the_search(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """The same, if every result reaches the target. At the end one is counted, or all have failed; no file is left."""
    seen = counted_files(disk)
    is_enough = any(owner for _, _, owner in seen) or all_are_counted(seen, trials_asked)
    lack = "" if is_enough else "the study has ended without a result that reaches the target"
    return what_is_miscounted(seen, beliefs, lack)


def each_attempt_has_one_worker(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """No two workers believe that they hold the same attempt."""
    attempts = [claim[1:] for claim in beliefs.holds]
    return "two workers believe that they hold one attempt" if len(set(attempts)) < len(attempts) else None


def each_file_tells_one_story(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """All lines after a worker's claim in a file are by that worker."""
    for path, inode in disk.names:
        owner = None
        for record in story_of(disk.files[inode].data):
            owner = record.get("claimed", owner)
            if record.get("by", owner) != owner or (record.get("result") or {}).get("by", owner) != owner:
                return f"{_short(path)}: holds a line of another worker than {owner}"
    return None


def what_is_handed_in_is_counted(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """If a worker was told that its result is handed in, it is counted. Only one worker is told so about a trial."""
    handed_in = [(number, attempt, owner) for owner, number, attempt in beliefs.handed_in]
    if len({number for number, _, _ in handed_in}) < len(handed_in):
        return "two workers were told that they have handed in the same trial"
    seen = [(name.number, name.attempt, _trained_by(story)) for name, story in seen_files(disk)]
    if beliefs.counted is not None and not set(handed_in) <= set(seen):
        return "a worker was told that its result is handed in, but it is not counted"
    return None


def one_master_changes_the_folder(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """No two masters have the same number, and none changes the folder before it has looked whether it still leads."""
    numbers = [number for _, number in beliefs.leads]
    if len(set(numbers)) < len(numbers):
        return "two masters have the same number"
    return "a master changes the folder without a look whether it still leads" if beliefs.unsure else None


def who_was_stopped_was_asked(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """A request stops the attempt that it names, and no other."""
    for path, inode in disk.names:
        name = TrialName.parse(posixpath.basename(path))
        for record in story_of(disk.files[inode].data) if name else ():
            if record.get("stopped", f"{name.number}-{name.attempt}") != f"{name.number}-{name.attempt}":
                return f"{_short(path)}: was stopped by the request to another attempt"
    return None


INVARIANTS: tuple[Callable[[Disk, Beliefs, int], str | None], ...] = (
    each_trial_is_counted_once,
    each_attempt_has_one_worker,
    each_file_tells_one_story,
    what_is_handed_in_is_counted,
    who_was_stopped_was_asked,
)


def each_trial_goes_on_once(disk: Disk, beliefs: Beliefs, trials_asked: int) -> str | None:
    """No two trials go on with the same one, and what one goes on with is counted."""
    counted_ones = {name.number for name, _ in seen_files(disk)}
    children: dict[int, int] = {}
    for path, inode in disk.names:
        name, story = TrialName.parse(posixpath.basename(path)), story_of(disk.files[inode].data)
        parent = (story[0].get("parent") or {}).get("trial") if name and story else None
        if name and parent is not None:
            if parent not in counted_ones:
                return f"trial {name.number} goes on with trial {parent}, which is not counted"
            if children.setdefault(parent, name.number) != name.number:
                return f"trials {children[parent]} and {name.number} both go on with trial {parent}"
    return None


WITH_PROMOTIONS = (*INVARIANTS, each_trial_goes_on_once)
WITH_TARGET = (the_target_ends_the_search, *INVARIANTS[1:])  # for a budget whose target each result reaches


def _trained_by(story: list[Record]) -> str | None:
    """The worker that trained the result in a file; None if the file holds a failure."""
    return next((record["result"]["by"] for record in story if "result" in record), None)


def wrong_step(disk: Disk, who: str, operation: Operation) -> str | None:
    """Why a call is forbidden: it replaces another file, or writes to a file of another process. None if it is allowed.

    A slow worker may write to a file that became .lost between its open and its write: nobody takes that for a result.
    """
    kind, *arguments = operation
    names = dict(disk.names)
    if kind == "rename":
        source, target = (names.get(path) for path in arguments)
        if None not in (source, target) and disk.files[source].data != disk.files[target].data:
            return f"{_short(arguments[1])} is replaced by another file"
    if kind == "write" and who.partition("-")[0] not in MASTERS:
        parsed = [TrialName.parse(posixpath.basename(path)) for path, inode in disk.names if inode == arguments[0]]
        for name in parsed:
            if name is None or (name.state, name.owner) not in (("taken", who), ("lost", "")):
                return f"{who} writes to {name}, which is not its own"
    return None


# ---------------------------------------------------------------- the exploration


class State(NamedTuple):
    """One state of the exploration. Disks, beliefs and nodes of processes are given by their numbers."""

    disk: int
    beliefs: int
    faults: int  # that may still strike
    delayed: tuple[tuple[str, str], ...]  # renames on their way through the network
    nodes: tuple[int, ...]  # the master's, then the workers'


class Numbered:
    """Values and their numbers."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(self.values)
            self.values.append(value)
        return self._numbers[value]


class Outcome(NamedTuple):
    """One possible outcome of a call."""

    disk: int
    answer: Any
    fault: str = ""
    delayed: tuple[tuple[str, str], ...] = ()


class Step(NamedTuple):
    """A line of a schedule."""

    who: str
    what: str
    fault: str = ""


class Finding(NamedTuple):
    """The result of an exploration."""

    states: int
    steps: int  # from one state to another
    runs: int  # of real code: as many different histories had one process
    seconds: float
    complete: bool  # all states were reached
    violation: str | None = None
    schedule: tuple[Step, ...] = ()

    def __str__(self) -> str:
        end = "" if self.complete or self.violation else ", not complete"
        numbers = f"{self.states:,} states, {self.steps:,} steps, {self.runs:,} runs, {self.seconds:.1f} s{end}"
        if self.violation is None:
            return f"{numbers}: no violation"
        lines = [f"{step.who:7} {step.what}{f'   <- {step.fault}' if step.fault else ''}" for step in self.schedule]
        return "\n".join([f"{numbers}: {self.violation}", *(f"  {line}" for line in lines)])


class Explorer:
    """Explores everything that can happen in one small study.

    Args:
        trials: the number of trials.
        workers: the number of workers.
        faults: the largest number of faults.
        kinds: those of FAULTS that may strike.
        max_attempts: the attempts of a trial.
        epochs: the epochs of a training; each is a line.
        invariants: conditions that must be true of every state.
        forbidden: says why a call is forbidden.
        most: the number of states after which to give up.
        masters: 1: the one master has led from the beginning; 2: two want to lead.
        budget: limits besides the number of trials.
        stopping: may the master ask, at any time, that a running trial be stopped early?
        promotes: does each trial go on with the one before?
    """

    def __init__(
        self,
        trials: int = 1,
        workers: int = 2,
        faults: int = 1,
        kinds: Collection[str] = tuple(FAULTS),
        max_attempts: int = 2,
        epochs: int = 1,
        invariants: Collection[Callable[[Disk, Beliefs, int], str | None]] = INVARIANTS,
        forbidden: Callable[[Disk, str, Operation], str | None] = wrong_step,
        most: int = 10_000_000,
        masters: int = 1,
        budget: Budget = Budget(),  # noqa: B008 (it never changes)
        stopping: bool = False,
        promotes: bool = False,
    ) -> None:
        space = {"x": Float(0.0, 1.0, False)}
        study = Study("model", "random", trials, "loss", "minimize", "", "model", space=space, budget=budget)
        if promotes:
            study = replace(study, fidelity=Fidelity("epochs", 1, 2**trials, 2, EachGoesOn.__name__))
        study = replace(study, stopping=Stopping("plateau") if stopping else None)
        self.trials, self.faults, self.kinds, self.most = trials, faults, frozenset(kinds), most
        self.names = ("master", *("ann", "bob", "cyd", "dan")[:workers], *MASTERS[1:masters])
        self.invariants, self.forbidden = (*invariants, *[one_master_changes_the_folder] * (masters - 1)), forbidden
        self.processes = Processes(study, max_attempts, epochs, masters, glances=max(faults, 1))
        self.disks, self.beliefs, self.steps = Numbered(), Numbered(), Numbered()
        self._perform = functools.cache(self._perform_once)
        self._outcomes = functools.cache(self._list_outcomes)
        self._settle = functools.cache(self._settle_once)
        self._check = functools.cache(self._check_once)

    def explore(self) -> Finding:
        """Explore breadth first, from the empty folder."""
        start = time.process_time()
        with stand_ins():
            return self._explore(start)

    def _explore(self, start: float) -> Finding:
        states = [self._initial()]
        numbers = {states[0]: 0}
        origins = array("q", [-1])  # of each state: the one before
        by = array("q", [-1])  # and the step from there
        edges = array("q")  # pairs of states: steps that need no fault
        count = 0

        def finding(violation: str | None = None, at: int = 0, last: int | None = None) -> Finding:
            path = [] if last is None else [last]
            while violation and at > 0:
                path.append(by[at])
                at = origins[at]
            seconds, runs = time.process_time() - start, len(self.processes.nodes)
            complete = len(states) < self.most
            schedule = tuple(self.steps.values[step] for step in reversed(path))
            return Finding(len(states), count, runs, seconds, complete, violation, schedule)

        for number, state in enumerate(states):  # the list grows meanwhile
            if len(states) >= self.most:
                return finding()
            for step, following, wrong in self._successors(state):
                count += 1
                if wrong:
                    return finding(wrong, number, step)
                if following not in numbers:
                    numbers[following] = len(states)
                    states.append(following)
                    origins.append(number)
                    by.append(step)
                    if violation := self._check(following.disk, following.beliefs):
                        return finding(violation, len(states) - 1)
                if following.faults == state.faults:
                    edges.extend((number, numbers[following]))
        stuck = self._first_stuck(states, edges)
        return finding("from here the study can't be completed any more" if stuck is not None else None, stuck or 0)

    def _initial(self) -> State:
        nodes = tuple(self.processes.start(who, 1) for who in self.names)
        return State(self.disks.number(Disk(())), self.beliefs.number(Beliefs()), self.faults, (), nodes)

    def _first_stuck(self, states: list[State], edges: array[int]) -> int | None:
        """The first state from which no way without faults leads to the end of the study."""
        alive = bytearray(self.beliefs.values[state.beliefs].counted is not None for state in states)
        changed = True
        while changed:
            changed = False
            for index in range(len(edges) - 2, -1, -2):
                if alive[edges[index + 1]] and not alive[edges[index]]:
                    alive[edges[index]] = changed = True
        return alive.find(0) if 0 in alive else None

    def _check_once(self, disk: int, beliefs: int) -> str | None:
        values = self.disks.values[disk], self.beliefs.values[beliefs]
        return next(filter(None, (invariant(*values, self.trials) for invariant in self.invariants)), None)

    # ---- from one state to the next

    def _successors(self, state: State) -> Iterator[tuple[int, State, str | None]]:
        for index in range(len(state.nodes)):
            yield from self._calls(state, index)
        for rename in state.delayed:
            yield self._arrival(state, rename)
        if state.faults:
            if "kill" in self.kinds:
                for index, node in enumerate(state.nodes):
                    if self.processes.nodes[node].operation:
                        yield self._deaths(state, (index,), state.disk, "is killed")
            if "power" in self.kinds:
                disk = self.disks.number(self.disks.values[state.disk].after_power_failure())
                yield self._deaths(state, range(len(state.nodes)), disk, "the power fails")

    def _calls(self, state: State, index: int) -> Iterator[tuple[int, State, str | None]]:
        """The next call of one process, with all its possible outcomes."""
        node = self.processes.nodes[state.nodes[index]]
        if node.operation is None:
            return
        who = self._owner(state, index)
        if node.operation[0] == "crash":
            yield self.steps.number(Step(who, node.operation[1])), state, f"{who} ends with an exception"
            return
        wrong = self.forbidden(self.disks.values[state.disk], who, node.operation)
        for outcome in self._outcomes(state.disk, node.operation):
            if not self._is_allowed(outcome.fault, state, node.operation):
                continue
            costs = bool(outcome.fault and outcome.fault != "dead")
            disk, following, notes = self._settle(
                outcome.disk, self.processes.answer(state.nodes[index], outcome.answer)
            )
            beliefs = self.beliefs.number(self.beliefs.values[state.beliefs].after(notes)) if notes else state.beliefs
            delayed = tuple(sorted((*state.delayed, *outcome.delayed))) if outcome.delayed else state.delayed
            nodes = (*state.nodes[:index], following, *state.nodes[index + 1 :])
            step = Step(who, _describe(node.operation, outcome.answer, notes), _describe_fault(outcome.fault))
            yield self.steps.number(step), State(disk, beliefs, state.faults - costs, delayed, nodes), wrong

    def _arrival(self, state: State, rename: tuple[str, str]) -> tuple[int, State, str | None]:
        """A delayed rename reaches the server."""
        wrong = self.forbidden(self.disks.values[state.disk], "network", ("rename", *rename))
        disk, answer = self._perform(state.disk, ("rename", *rename))
        rest = list(state.delayed)
        rest.remove(rename)
        step = self.steps.number(Step("network", f"delivers {_describe(('rename', *rename), answer, ())}"))
        return step, state._replace(disk=disk, delayed=tuple(rest)), wrong

    def _deaths(self, state: State, indices: Collection[int], disk: int, what: str) -> tuple[int, State, str | None]:
        """Some processes end, others take their places."""
        nodes, owners = list(state.nodes), [self._owner(state, index) for index in indices]
        for index in indices:
            rest = self.processes.nodes[nodes[index]].rest
            nodes[index] = self.processes.start(rest.who, rest.life + 1)
        beliefs = self.beliefs.number(self.beliefs.values[state.beliefs].without(owners))
        step = self.steps.number(Step(owners[0] if len(indices) == 1 else "", what, "fault"))
        return step, State(disk, beliefs, state.faults - 1, state.delayed, tuple(nodes)), None

    def _owner(self, state: State, index: int) -> str:
        rest = self.processes.nodes[state.nodes[index]].rest
        return owner_token(rest.who, rest.life)

    def _is_allowed(self, fault: str, state: State, operation: Operation) -> bool:
        if not fault:
            return True
        if operation[:2] in (("choose", "hopeless"), ("choose", "whole")):
            return True  # either answer is no fault
        if operation[:2] == ("choose", "vanished"):  # a lease is long: by then all that is there has been listed
            return not any(name.number == operation[2] for name in names_in_hand(self.disks.values[state.disk]))
        if operation[:2] == ("choose", "follow"):
            leads = operation[2] in [number for _, number in self.beliefs.values[state.beliefs].leads]
            if not leads or fault == "dead":
                return not leads and fault == "dead"  # it has ended, or died
        if operation[:2] == ("choose", "expired"):
            alive = operation[2] in [self._owner(state, index) for index in range(1, len(state.nodes))]
            if not alive or fault == "dead":
                return not alive and fault == "dead"  # the lease of a dead worker expires sooner or later
        return state.faults > 0 and fault in self.kinds

    def _list_outcomes(self, disk: int, operation: Operation) -> tuple[Outcome, ...]:
        """All possible outcomes of a call. Private calls are not asked about: they have one outcome."""
        kind, *arguments = operation
        if kind == "choose":
            faults = {
                "preempt": ("preempt",),
                "crash": ("crash",),
                "expired": ("expire", "dead"),
                "vanished": ("dead",),
                "follow": ("usurp", "dead"),
                "hopeless": ("dead",),
                "whole": ("dead",),
            }[arguments[0]]
            return (Outcome(disk, False), *(Outcome(disk, True, fault) for fault in faults))
        after, answer = self._perform(disk, operation)
        outcomes = [Outcome(after, answer)]
        if kind == "rename" and answer is None:
            outcomes.append(Outcome(after, Failure(errno.ENOENT), "reply"))
            if not arguments[0].endswith("tmp"):  # a temporary name never comes again
                rename = (arguments[0], arguments[1])
                outcomes.append(Outcome(after, None, "repeat", (rename,)))
                outcomes.append(Outcome(disk, Failure(errno.EIO), "late", (rename,)))
        if kind == "listdir":
            hidden = [text for text in answer if TrialName.parse(text)]
            outcomes += [Outcome(disk, tuple(t for t in answer if t != text), "omit") for text in hidden]
        if kind == "read" and any(path.endswith(".done") for path in self.disks.values[disk].names_of(arguments[0])):
            before = answer[: answer.rstrip(b"\n").rfind(b"\n") + 1]
            outcomes.append(Outcome(disk, before, "short"))
        if kind in ("status", "open") and answer == Failure(errno.ENOENT):
            moved = self.disks.values[disk].moved(arguments[0])
            if moved is not None:
                outcomes.append(Outcome(disk, moved if kind == "open" else (moved, 0), "old"))
        return tuple(outcomes)

    def _perform_once(self, disk: int, operation: Operation) -> tuple[int, Any]:
        kind, *arguments = operation
        after, answer = getattr(self.disks.values[disk], kind)(*arguments)
        return self.disks.number(after), answer

    def _settle_once(self, disk: int, node: int) -> tuple[int, int, tuple[Operation, ...]]:
        """Run through calls that no other process can notice. Returns the disk, the node, and the notes on the way."""
        notes = list(self.processes.nodes[node].notes)
        while (operation := self.processes.nodes[node].operation) and is_private(self.disks.values[disk], operation):
            disk, answer = self._perform(disk, operation)
            node = self.processes.answer(node, answer)
            notes += self.processes.nodes[node].notes
        return disk, node, tuple(notes)


# ---------------------------------------------------------------- in words


def _short(path: str) -> str:
    return path.removeprefix(f"{LOGS}/")


def _describe_fault(fault: str) -> str:
    return {**FAULTS, **MORE_FAULTS, "dead": ""}.get(fault, "")


def _describe(operation: Operation, answer: Any, notes: tuple[Operation, ...]) -> str:
    """A call, its answer, and what its caller believes from then on, in a line."""
    kind, *arguments = operation
    if kind == "write":
        text = f"appends {arguments[1].decode().strip()}"
    elif kind == "choose":
        text = {
            "preempt": "is it to stop?",
            "crash": "does its trainer die?",
            "expired": f"has the lease of {arguments[-1]} expired?",
            "vanished": f"has trial {arguments[-1]} been absent for a lease?",
            "follow": f"has master {arguments[-1]} ended, died or fallen silent?",
            "hopeless": f"is trial {arguments[1:]} to be stopped early?",
            "whole": "has it ended by itself meanwhile?",
        }[arguments[0]]
        text += " yes" if answer else " no"
    elif kind == "rename":
        text = f"renames {_short(arguments[0])} -> {_short(arguments[1])}"
    elif kind == "listdir":
        text = f"lists {arguments[0]}: {', '.join(t for t in answer if TrialName.parse(t)) or 'no trials'}"
    else:
        text = " ".join([kind, *(_short(str(argument)) for argument in arguments[:1])])
    if isinstance(answer, Failure):
        text += f": {errno.errorcode[answer.errno]}"
    for note, *claim in notes:
        what = (
            f"{claim[0]} {note} trial {claim[1]}, attempt {claim[2]}"
            if len(claim) == 3
            else " ".join([note, *map(str, claim)])
        )
        text += f"   [{what if note != 'done' else note}]"
    return text


def main() -> int:
    """Explore. The exit code is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--long", action="store_true", help="explore more (eight minutes)")
    parser.add_argument("--masters", action="store_true", help="explore two masters instead (two minutes)")
    parser.add_argument("--promotions", action="store_true", help="explore trials that go on with others instead")
    parser.add_argument("--target", action="store_true", help="explore a budget's target instead (one minute)")
    parser.add_argument("--stopping", action="store_true", help="explore requests to stop instead (three minutes)")
    parser.add_argument("--trials", type=int, help="explore this instead: the number of trials")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--faults", type=int, default=1, help="the largest number of faults (default: 1)")
    parser.add_argument("--kinds", default=",".join(FAULTS), help="of these kinds (default: %(default)s)")
    parser.add_argument("--max-attempts", type=int, default=2)
    parser.add_argument("--most", type=int, default=10_000_000, help="states after which to give up")
    arguments = parser.parse_args()
    sizes = [(1, 1), (2, 0)] + ([(1, 2)] if arguments.long else [])
    others = arguments.masters or arguments.target or arguments.promotions or arguments.stopping
    sizes = [] if others else sizes
    if arguments.trials:
        sizes = [(arguments.trials, arguments.faults)]
    code = 0
    for faults in (0, 1) if arguments.masters else ():
        finding = Explorer(1, 1, faults, ["usurp"], epochs=0, masters=2).explore()
        print(f"1 trial, 1 worker, 2 masters, {faults} faults: {finding}", flush=True)
        code |= finding.violation is not None
    for workers, faults in ((1, 1), (2, 0)) if arguments.promotions else ():
        finding = Explorer(2, workers, faults, epochs=0, invariants=WITH_PROMOTIONS, promotes=True).explore()
        print(f"a trial and its promotion, {workers} workers, {faults} faults: {finding}", flush=True)
        code |= finding.violation is not None
    for workers, faults in ((1, 1), (2, 0)) if arguments.target else ():
        finding = Explorer(2, workers, faults, epochs=0, invariants=WITH_TARGET, budget=Budget(target=0.5)).explore()
        print(f"2 trials, {workers} workers, a target, {faults} faults: {finding}", flush=True)
        code |= finding.violation is not None
    for workers, faults in ((2, 0), (1, 1)) if arguments.stopping else ():
        finding = Explorer(1, workers, faults, stopping=True, most=arguments.most).explore()
        print(f"1 trial, {workers} workers, requests to stop, {faults} faults: {finding}", flush=True)
        code |= finding.violation is not None
    for trials_asked, faults in sizes:
        kinds = re.split(r"\W+", arguments.kinds)
        explorer = Explorer(trials_asked, arguments.workers, faults, kinds, arguments.max_attempts, most=arguments.most)
        finding = explorer.explore()
        print(f"{trials_asked} trials, {arguments.workers} workers, {faults} faults: {finding}", flush=True)
        code |= finding.violation is not None
    return code


if __name__ == "__main__":
    sys.exit(main())
