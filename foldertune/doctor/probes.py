"""The doctor's probes: what a search does, tried with trials of its own, by real processes.

Claims, hand-ins and lines are those of `search.trials` itself: what is proven here is what a search relies on.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import mmap
import os
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldertune.protocol import (
    BrokenFile,
    Claim,
    Folder,
    LeaseLost,
    TrialName,
    describe_owner,
    has_died,
    new_owner,
    read_records,
    to_line,
    write_whole,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PROCESSES, TRIALS, LINES, REPLACEMENTS, SYNCS = 8, 100, 300, 200, 15
PATIENCE = 90.0  # seconds; what a network's caches hide by default is there after 60
STUCK = 20.0  # seconds for what takes milliseconds
COARSE = 3.0  # seconds; the coarsest times of files are 2 s apart


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    mark: str  # ok, note (it can be used all the same) or bad
    what: str
    remedy: str = ""


@dataclass
class Visit:
    """What the checks share."""

    logs: Folder
    mounts: Sequence[Path]  # the probes' own folder; with --second-mount also as seen through that
    wait: float = 0.0  # seconds, from the start, in which partners may turn up of whom nothing is to be seen yet
    started: float = field(default_factory=time.monotonic)
    delay: float = 0.0  # the longest until a change was seen and answered, in seconds
    far: bool = False  # has another machine, or another mount, answered?

    def rooms(self, name: str) -> list[Folder]:
        """A new folder for the trials of one check, as each mount shows it."""
        (self.mounts[0] / name / "seen").mkdir(parents=True)
        return [Folder(mount / name) for mount in self.mounts]

    def server_time(self) -> float:
        """The time now by the clock that stamps files, in seconds."""
        path = self.mounts[0] / "clock"
        path.touch()
        os.utime(path)
        return path.stat().st_mtime

    def names(self) -> list[TrialName]:
        """The work in hand of the search; empty where none has begun."""
        try:
            return sorted(self.logs.names(), key=str)
        except FileNotFoundError:
            return []


def in_words(seconds: float) -> str:
    """`7 µs`, `2.1 ms`, `3.4 s`, `12 min`."""
    if seconds < 0.001:
        return f"{1e6 * seconds:.0f} µs"
    if seconds < 1:
        return f"{1000 * seconds:.1f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 180 else f"{seconds / 60:,.0f} min"


# ---------------------------------------------------------------- what a search does


def check_claims(visit: Visit) -> Iterator[Finding]:
    """Of all who claim a trial, exactly one must get it."""
    rooms, names = visit.rooms("claims"), [TrialName(number, 1) for number in range(TRIALS)]
    for name in names:
        rooms[0].publish(name, {}, lease=1.0)
    line = StartLine(PROCESSES)
    works = [functools.partial(_claim_all, rooms[k % len(rooms)], names, line, k) for k in range(PROCESSES)]
    owners = Counter(name.number for won in together(works) for name in won)
    files = [name for name in rooms[0].names() if name.state == "taken"]
    yield _each_once(f"{PROCESSES} processes reached for {TRIALS} trials: each went to one", owners, files)


def _claim_all(folder: Folder, names: Sequence[TrialName], line: StartLine, who: int) -> list[TrialName]:
    owner, won = new_owner(), []
    for step, name in enumerate(names):
        line.wait(who, step)
        if claim := folder.claim(owner, iter([name])):
            claim.read()  # it must be there
            won.append(name)
    return won


def check_hand_ins(visit: Visit) -> Iterator[Finding]:
    """When a worker hands in what the master gives up, over to another directory, one of the two must succeed."""
    rooms = visit.rooms("hand-ins")
    names = [take(rooms[0], number).name for number in range(TRIALS)]
    line = StartLine(2)
    works = [
        functools.partial(_lose_all, rooms[0], names, line),
        functools.partial(_hand_in_all, rooms[-1], names, line),
    ]
    movers = Counter(name.number for moved in together(works) for name in moved)
    files = [name for name in (*rooms[0].names(), *rooms[0].settled()) if name.state in ("done", "lost")]
    yield _each_once(f"{TRIALS} trials handed in and given up at once: each went one way", movers, files)


def _lose_all(folder: Folder, names: Sequence[TrialName], line: StartLine) -> list[TrialName]:
    lost = []
    for step, name in enumerate(names):
        line.wait(0, step)
        if folder.lose(name):
            lost.append(name)
    return lost


def _hand_in_all(folder: Folder, names: Sequence[TrialName], line: StartLine) -> list[TrialName]:
    moved = []
    for step, name in enumerate(names):
        line.wait(1, step)
        with contextlib.suppress(LeaseLost):
            Claim(folder, name).hand_in()
            moved.append(name)
    return moved


def _each_once(what: str, movers: Counter[int], files: Sequence[TrialName]) -> Finding:
    """One mover for each trial, and one file: a listing may be old and show fewer (a cache), but not more."""
    copies = Counter(name.number for name in files)
    wrong = sum(movers[number] != 1 or copies[number] > 1 for number in range(TRIALS))
    if not wrong:
        return Finding("ok", what)
    what = f"{wrong} of {TRIALS} trials went to more or fewer than one who reached for them"
    return Finding("bad", what, "rename is not exclusive here: use a folder on another filesystem")


def check_replacing(visit: Visit) -> Iterator[Finding]:
    """Who reads a file that is being replaced must see the old one or the new one, whole."""
    rooms = visit.rooms("replacing")
    path = rooms[0].path / "table"
    _replace(path, 1)
    reader = functools.partial(_read_until_last, str(rooms[-1].path / "table"))
    trouble = next(
        filter(None, together([functools.partial(_replace, path, REPLACEMENTS), reader, reader], 2 * PATIENCE)), None
    )
    if trouble == "missing":  # libfuse moves what is open out of the way first: seen with bindfs
        remedy = "nothing: those who read a file that can be replaced look again"
        yield Finding("note", "a file being replaced was missing for a moment", remedy)
    elif trouble:
        yield Finding("bad", f"a file being replaced was {trouble}", "use a folder on another filesystem")
    else:
        yield Finding("ok", f"a file replaced {REPLACEMENTS} times was never torn or missing")


def _replace(path: Path, times: int) -> None:
    for number in range(times):
        write_whole(path, to_line({"text": "x" * 20_000}) + to_line({"last": number == REPLACEMENTS - 1}))


def _read_until_last(path: str) -> str:
    deadline, trouble = time.monotonic() + PATIENCE, ""
    while time.monotonic() < deadline:
        try:
            records = read_records(path)
        except BrokenFile:
            return "torn"
        except FileNotFoundError:
            trouble = "missing"
            continue
        if len(records) != 2:
            return "torn"
        if records[1]["last"]:
            return trouble
    return f"old for {PATIENCE:g} s"


def check_lines(visit: Visit) -> Iterator[Finding]:
    """Lines come whole and in order while another reads; and what was taken away, its owner can't bring back."""
    rooms = visit.rooms("lines")
    claim = take(rooms[0], 1)
    reader = functools.partial(_follow, Claim(rooms[-1], claim.name))
    trouble = together([functools.partial(_append_all, claim), reader], 2 * PATIENCE)
    descriptor = os.open(claim.path, os.O_WRONLY | os.O_APPEND)  # a worker in the middle of an append
    try:
        together([functools.partial(rooms[-1].lose, claim.name)])
        with contextlib.suppress(OSError):  # ESTALE is as good
            os.write(descriptor, b"{}\n")
    finally:
        os.close(descriptor)
    try:
        claim.append({"epoch": 0})
        trouble.append("a line went into a file that was taken away")
    except LeaseLost:
        pass
    if os.path.lexists(claim.path):
        trouble.append("a name came back that was taken away")
    for what in filter(None, trouble):
        yield Finding("bad", what, "use a folder on another filesystem")
    if not any(trouble):
        yield Finding("ok", f"{LINES} lines were read whole as they came; what is gone stays gone")


def _append_all(claim: Claim) -> None:
    for number in range(1, LINES + 1):
        claim.append({"epoch": number})


def _follow(claim: Claim) -> str:
    deadline, count = time.monotonic() + PATIENCE, 0
    while count < LINES and time.monotonic() < deadline:
        try:
            epochs = [record["epoch"] for record in claim.read().epochs]
        except (BrokenFile, LeaseLost) as error:
            return f"a file that grows was seen broken ({type(error).__name__})"
        if epochs != list(range(1, len(epochs) + 1)) or len(epochs) < count:
            return "lines were seen out of order"
        count = len(epochs)
    return "" if count == LINES else f"lines were not seen by another process for {PATIENCE:g} s"


def check_sync(visit: Visit) -> Iterator[Finding]:
    """A result is handed in when it is on stable storage: how long does that take?"""
    claim, seconds = take(visit.rooms("sync")[0], 1), []
    for number in range(SYNCS):
        start = time.monotonic()
        claim.append({"epoch": number}, sync=True)
        seconds.append(time.monotonic() - start)
    yield Finding(
        "ok", f"a result is on stable storage after {in_words(statistics.median(seconds))} (median of {SYNCS})"
    )


def check_times(visit: Visit) -> Iterator[Finding]:
    """Signs of life are changes of a file's time. Whose clock it is does not matter, so a difference is no fault."""
    claim, times = take(visit.rooms("times")[0], 1), set[int]()
    deadline = time.monotonic() + COARSE
    while len(times) < 6 and time.monotonic() < deadline:
        claim.beat()
        times.add(os.lstat(claim.path).st_mtime_ns)
    if len(times) < 2:
        yield Finding("bad", f"a sign of life did not change a file's time in {COARSE:g} s", "use another filesystem")
        return
    step = min(later - earlier for earlier, later in itertools.pairwise(sorted(times))) / 1e9
    yield Finding("ok" if step <= 1 else "note", f"signs of life change a file's time, in steps of {in_words(step)}")
    difference = visit.server_time() - time.time()
    if abs(difference) > 2:
        side = "ahead of" if difference > 0 else "behind"
        remedy = "nothing for the search, which never compares clocks"
        yield Finding("note", f"files bear a time {in_words(abs(difference))} {side} this machine's", remedy)


def check_locks(visit: Visit) -> Iterator[Finding]:
    """Locks do one thing here: they keep a second master out. In processes of their own, for locks can hang."""
    rooms = visit.rooms("locks")
    remedy = "see to it yourself that only one master runs"
    try:
        free = together([functools.partial(_locks, rooms[0].path / "lock", rooms[-1].path / "lock")])[0]
    except TimeoutError:
        remedy = "is the lock service running (NFS: rpc.statd, or mount with nolock)?"
        yield Finding("bad", f"a lock hangs, for more than {STUCK:g} s: so would the master", remedy)
        return
    except (OSError, NotImplementedError) as error:
        yield Finding("note", f"locks do not work here ({error})", remedy)
        return
    yield (
        Finding("note", "a lock does not keep others out", remedy)
        if free
        else Finding("ok", "a second master is kept out")
    )


def _locks(path: Path, same: Path) -> bool:
    from filelock import FileLock, Timeout

    with FileLock(path, timeout=0):
        try:
            with FileLock(same, timeout=0):
                return True
        except Timeout:
            return False


def take(folder: Folder, number: int) -> Claim:
    """A trial of the probes' own, claimed."""
    name = TrialName(number, 1)
    folder.publish(name, {}, lease=1.0)
    claim = folder.claim(new_owner(), iter([name]))
    if claim is None:
        raise LeaseLost(folder.locate(name))
    return claim


# ---------------------------------------------------------------- processes, and the folder of the probes


@contextlib.contextmanager
def processes(works: Sequence[Callable[[], Any]]) -> Iterator[list[Connection]]:
    """Each work in a process of its own. It begins when something is sent to it; none outlives the block."""
    import multiprocessing

    context, pipes, started = multiprocessing.get_context("fork"), [], []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        for work in works:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(work, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            started.append(process)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield pipes
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for process in started:
            process.kill()
        for process in started:
            process.join()


def _work(work: Callable[[], Any], pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the doctor, who ends us
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    with contextlib.suppress(EOFError, BrokenPipeError):  # the doctor was killed
        pipe.recv()
        try:
            result = work()
        except Exception as error:  # it is raised again where it is waited for
            result = error
        pipe.send(result)


def together(works: Sequence[Callable[[], Any]], seconds: float = STUCK) -> list[Any]:
    """What each work returns, in processes that begin at one moment. Raises what one raises, TimeoutError if stuck."""
    from multiprocessing.connection import Connection, wait

    deadline, results = time.monotonic() + seconds, dict[Connection, Any]()
    with processes(works) as pipes:
        for pipe in pipes:
            pipe.send(None)
        while len(results) < len(pipes):
            ready = wait([pipe for pipe in pipes if pipe not in results], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            for pipe in (pipe for pipe in pipes if pipe in ready):
                try:
                    results[pipe] = pipe.recv()
                except EOFError:
                    raise OSError("a process of the doctor was killed") from None
                if isinstance(results[pipe], Exception):
                    raise results[pipe]
    return [results[pipe] for pipe in pipes]


class StartLine:
    """Where processes wait for each other before every step: else the first has done all before the last begins."""

    def __init__(self, count: int) -> None:
        self._deadline = time.monotonic() + STUCK
        self._steps = mmap.mmap(-1, count)  # shared with the processes to come: the step that each has reached

    def wait(self, who: int, step: int) -> None:
        """Return when all have come to this step."""
        self._steps[who] = step + 1
        while min(self._steps[:]) <= step:
            os.sched_yield()
            if time.monotonic() > self._deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


@contextlib.contextmanager
def scratch_in(logs: Path, suffix: str = "") -> Iterator[Path]:
    """A folder for the probes that goes with us. No trial's name begins like its name, so all programs ignore it."""
    owner = new_owner()
    scratch = logs / f".doctor-{owner}{suffix}"
    try:
        scratch.mkdir()
        write_whole(scratch / "who", to_line(describe_owner(owner)))
        yield scratch
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        shutil.rmtree(scratch, ignore_errors=True)  # an impatient second Ctrl-C does not keep it here
        for number, handler in before.items():
            signal.signal(number, handler)


def is_left_over(path: Path) -> bool:
    """Is this the folder of a doctor that is certainly gone?"""
    try:
        return has_died(read_records(str(path / "who"))[0])
    except (OSError, BrokenFile, IndexError):
        return False
