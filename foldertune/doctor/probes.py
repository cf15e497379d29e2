"""The doctor's probes do what a search does, in several processes, with trials of their own.

They use the protocol's own claims, hand-ins and lines, so they test exactly what a search relies on.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from foldertune.doctor.processes import StartLine, together
from foldertune.doctor.visit import Finding, Visit, in_words
from foldertune.protocol import (
    BrokenFile,
    Claim,
    Folder,
    LeaseLost,
    Masters,
    TrialName,
    new_owner,
    read_records,
    to_line,
    write_whole,
)

PROCESSES, MASTERS, TRIALS, LINES, REPLACEMENTS, SYNCS = 8, 4, 100, 300, 200, 15
PATIENCE = 90.0  # seconds; by default, a network filesystem's caches are at most 60 s old
COARSE = 3.0  # seconds; the coarsest times of files are 2 s apart


def check_claims(visit: Visit) -> Iterator[Finding]:
    """Checks that exactly one of several processes that claim a trial gets it."""
    rooms, names = visit.rooms("claims"), [TrialName(number, 1) for number in range(TRIALS)]
    for name in names:
        rooms[0].publish(name, {}, lease=1.0)
    line = StartLine(PROCESSES)
    works = [functools.partial(_claim_all, rooms[k % len(rooms)], names, line, k) for k in range(PROCESSES)]
    owners = Counter(name.number for won in together(works, 2 * PATIENCE) for name in won)
    files = [name for name in rooms[0].names() if name.state == "taken"]
    yield _each_once(f"{PROCESSES} processes claimed {TRIALS} trials at once: each went to one", owners, files)


def _claim_all(folder: Folder, names: Sequence[TrialName], line: StartLine, who: int) -> list[TrialName]:
    owner, won = new_owner(), []
    for step, name in enumerate(names):
        line.wait(who, step)
        if claim := folder.claim(owner, iter([name])):
            claim.read()  # it must be there
            won.append(name)
    return won


def check_hand_ins(visit: Visit) -> Iterator[Finding]:
    """Checks that exactly one rename succeeds when a worker hands in a trial while the master gives it up."""
    rooms = visit.rooms("hand-ins")
    names = [take(rooms[0], number).name for number in range(TRIALS)]
    line = StartLine(2)
    works = [
        functools.partial(_lose_all, rooms[0], names, line),
        functools.partial(_hand_in_all, rooms[-1], names, line),
    ]
    movers = Counter(name.number for moved in together(works, 2 * PATIENCE) for name in moved)
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
    """Checks that each trial has one mover and one file. A listing out of date may show fewer files, but not more."""
    copies = Counter(name.number for name in files)
    wrong = sum(movers[number] != 1 or copies[number] > 1 for number in range(TRIALS))
    if not wrong:
        return Finding("ok", what)
    what = f"{wrong} of {TRIALS} trials went to no process or to several"
    return Finding("bad", what, "rename is not exclusive here: use a folder on another filesystem")


def check_replacing(visit: Visit) -> Iterator[Finding]:
    """Checks that a process that reads a file while it is replaced sees the old file or the new one, whole."""
    rooms = visit.rooms("replacing")
    path = rooms[0].path / "table"
    _replace(path, 1)
    reader = functools.partial(_read_until_last, str(rooms[-1].path / "table"))
    trouble = next(
        filter(None, together([functools.partial(_replace, path, REPLACEMENTS), reader, reader], 2 * PATIENCE)), None
    )
    if trouble == "missing":  # libfuse first moves an open file out of the way: seen with bindfs
        remedy = "nothing: programs look again when such a file is missing"
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
    """Checks that readers see lines whole and in order, and that an owner can't bring back a trial it has lost."""
    rooms = visit.rooms("lines")
    claim = take(rooms[0], 1)
    reader = functools.partial(_follow, Claim(rooms[-1], claim.name))
    trouble = together([functools.partial(_append_all, claim), reader], 2 * PATIENCE)
    descriptor = os.open(claim.path, os.O_WRONLY | os.O_APPEND)  # a worker in the middle of an append
    try:
        together([functools.partial(rooms[-1].lose, claim.name)])
        with contextlib.suppress(OSError):  # ESTALE is also fine
            os.write(descriptor, b"{}\n")
    finally:
        os.close(descriptor)
    with contextlib.suppress(LeaseLost):  # a cache may still know the old name; then the line goes into the lost file
        claim.append({"epoch": 0})
    if _stays(claim.name, rooms[0]):
        trouble.append("a file that was taken away came back under its old name")
    for what in filter(None, trouble):
        yield Finding("bad", what, "use a folder on another filesystem")
    if not any(trouble):
        yield Finding("ok", f"{LINES} lines were read whole as they came; a lost name stays gone")


def _stays(name: TrialName, room: Folder) -> bool:
    """Is this name in every listing, for as long as a cache may be old?"""
    deadline = time.monotonic() + PATIENCE
    while name in room.names():
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def _append_all(claim: Claim) -> None:
    for number in range(1, LINES + 1):
        claim.append({"epoch": number})


def _follow(claim: Claim) -> str:
    deadline, count = time.monotonic() + PATIENCE, 0
    while count < LINES and time.monotonic() < deadline:
        try:
            epochs = [record["epoch"] for record in claim.read().epochs]
        except (BrokenFile, LeaseLost) as error:
            return f"a growing file looked broken ({type(error).__name__})"
        if epochs != list(range(1, len(epochs) + 1)) or len(epochs) < count:
            return "lines were seen out of order"
        count = len(epochs)
    return "" if count == LINES else f"lines were not seen by another process for {PATIENCE:g} s"


def check_sync(visit: Visit) -> Iterator[Finding]:
    """Measures how long it takes to put a result on stable storage, which a worker does before it hands it in."""
    claim, seconds = take(visit.rooms("sync")[0], 1), []
    for number in range(SYNCS):
        start = time.monotonic()
        claim.append({"epoch": number}, sync=True)
        seconds.append(time.monotonic() - start)
    yield Finding(
        "ok", f"a result is on stable storage after {in_words(statistics.median(seconds))} (median of {SYNCS})"
    )


def check_times(visit: Visit) -> Iterator[Finding]:
    """Checks that a heartbeat changes a file's time. Any machine's clock will do, so a wrong clock is not a fault."""
    claim, times = take(visit.rooms("times")[0], 1), set[int]()
    deadline = time.monotonic() + COARSE
    while len(times) < 6 and time.monotonic() < deadline:
        claim.beat()
        times.add(os.lstat(claim.path).st_mtime_ns)
    if len(times) < 2:
        yield Finding("bad", f"a heartbeat did not change a file's time in {COARSE:g} s", "use another filesystem")
        return
    step = min(later - earlier for earlier, later in itertools.pairwise(sorted(times))) / 1e9
    yield Finding("ok" if step <= 1 else "note", f"heartbeats change a file's time, in steps of {in_words(step)}")
    difference = visit.server_time() - time.time()
    if abs(difference) > 2:
        side = "ahead of" if difference > 0 else "behind"
        remedy = "nothing: a search never compares clocks"
        yield Finding("note", f"the times of files are {in_words(abs(difference))} {side} this machine's clock", remedy)


def check_masters(visit: Visit) -> Iterator[Finding]:
    """Checks that of several masters that start at once one leads: only one can make the next number's file."""
    rooms = visit.rooms("masters")
    works = [functools.partial(_lead, rooms[k % len(rooms)].path) for k in range(MASTERS)]
    leading = sum(together(works))
    if leading == 1:
        yield Finding("ok", f"{MASTERS} masters start at once: one leads")
    else:
        yield Finding("bad", f"{MASTERS} masters start at once: {leading} lead", "use another filesystem")


def _lead(path: Path) -> bool:
    return Masters(Folder(path)).follow(0, new_owner(), 1.0) is not None


def take(folder: Folder, number: int) -> Claim:
    """Publish a trial of the doctor's own, and claim it."""
    name = TrialName(number, 1)
    folder.publish(name, {}, lease=1.0)
    claim = folder.claim(new_owner(), iter([name]))
    if claim is None:
        raise LeaseLost(folder.locate(name))
    return claim
