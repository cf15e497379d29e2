"""Measures how soon others see a change: the doctor makes it, and processes here and on other machines repeat it.

The doctor measures the time from its change to their answer by its own clock, so no clocks are compared.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from foldertune.doctor.probes import COARSE, PATIENCE
from foldertune.doctor.processes import processes
from foldertune.doctor.visit import Finding, Visit, in_words, is_left_over, scratch_in
from foldertune.protocol import LONGEST_DOUBT, BrokenFile, Claim, Folder, TrialName, new_owner
from foldertune.shipped import command
from foldertune.text import printable

ANSWERING = 600.0  # seconds
WAYS = ("name", "rename", "time", "line", "result")  # the ways in which a trial changes
NOTABLE, OLD_NAMES = 0.1, 5.0  # seconds that an old name may stay unmentioned; the longest wait for it to go


class Voice:
    """Makes the changes: it changes a trial in every way in which a search does."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._claim: Claim | None = None

    def say(self, way: str) -> None:
        """Change the trial in this way, one of WAYS."""
        if way == "name":
            self.folder.publish(TrialName(1, 1), {}, lease=1.0)
        elif way == "rename" or self._claim is None:
            self._claim = self.folder.claim(new_owner(), iter([TrialName(1, 1)]))
        elif way == "time":
            before, deadline = os.lstat(self._claim.path).st_mtime_ns, time.monotonic() + COARSE
            while os.lstat(self._claim.path).st_mtime_ns == before and time.monotonic() < deadline:
                self._claim.beat()  # where times are coarse, one heartbeat may change nothing
        elif way == "line":
            self._claim.append({"epoch": 1})
        else:
            self._claim.finish({"result": {}})


class Ear:
    """Notices the changes of the trial in a folder, as seen from here."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._time = 0
        self._taken: TrialName | None = None

    def hears(self, way: str) -> bool:
        """Has the trial changed in this way? Ask in the order of WAYS."""
        try:
            names = self.folder.names()
            if way == "name" or not names:
                return bool(names)
            if way == "result":
                return any(name.state == "done" and self.folder.read(name).is_over for name in names)
            taken = self._taken = next(name for name in names if name.state == "taken")
            time_now = os.lstat(self.folder.locate(taken)).st_mtime_ns
            if way == "rename":
                self._time = time_now
                return True
            return time_now != self._time if way == "time" else bool(self.folder.read(taken).epochs)
        except (OSError, BrokenFile, StopIteration):
            return False  # not yet, or in between

    def old_name_stays(self) -> float:
        """For how many seconds is the trial, which was handed in, still found under the name that it had before?"""
        start = time.monotonic()
        while self._taken and self.folder.has(self._taken) and time.monotonic() - start < OLD_NAMES:
            time.sleep(0.01)
        return time.monotonic() - start


def echo(theirs: Folder, ours: Folder) -> Iterator[None]:
    """Answer every change with the same change. Each `next` looks once and answers if it can."""
    ours.seen.mkdir(parents=True)
    ear, voice = Ear(theirs), Voice(ours)
    for way in WAYS:
        while not ear.hears(way):
            yield
        voice.say(way)


def _echo_here(theirs: Folder, ours: Folder, parent: int) -> None:
    for _ in echo(theirs, ours):
        time.sleep(0.002)
        if os.getppid() != parent:
            return


def check_visibility(visit: Visit) -> Iterator[Finding]:
    """Measures the time until others see a change.

    It is the time there and back, measured now. A file that has not changed for long may be cached for longer.
    """
    theirs = visit.rooms("voice")
    ours = visit.rooms("echo-folders")
    here = "second mount" if len(visit.mounts) > 1 else "another process"
    partner = functools.partial(_echo_here, theirs[-1], Folder(ours[-1].path / "echo"), os.getpid())
    with processes([partner]) as pipes:
        pipes[0].send(None)
        partners, silent = find_partners(visit)
        ears = {here: Ear(Folder(ours[0].path / "echo"))} | {host: Ear(folder) for host, folder in partners.items()}
        heard = converse(Voice(theirs[0]), ears)
        old = max([ears[who].old_name_stays() for who in ears if len(heard[who]) == len(WAYS)], default=0.0)
    visit.far = len(visit.mounts) > 1 or bool(partners)
    for who, delays in heard.items():
        visit.delay = max([visit.delay, *delays.values()])
        if len(delays) == len(WAYS) and delays["result"] - delays["line"] < LONGEST_DOUBT:
            yield Finding("ok", f"{who}: {_in_one_unit(delays)}")
        elif len(delays) == len(WAYS):
            seconds = in_words(delays["result"])
            remedy = "mount it with shorter caches: after so long, a master trains a finished trial again"
            yield Finding("bad", f"{who} saw a trial handed in without its result for {seconds}", remedy)
        elif who in partners and not partners[who].path.is_dir():
            yield Finding("note", f"{who} has stopped answering", "try again")
        else:
            way = WAYS[len(delays)]
            remedy = "mount it with shorter caches (NFS: actimeo=3), or use another filesystem"
            yield Finding("bad", f"{who} did not see a changed {way} in {PATIENCE:g} s", remedy)
    if old > NOTABLE:
        how = f"for more than {OLD_NAMES:g} s" if old >= OLD_NAMES else f"for {in_words(old)}"
        yield Finding("note", f"a renamed file is found under its old name {how}", "nothing: programs read listings")
    for host in silent:
        yield Finding(
            "note",
            f"{host} did not answer in {PATIENCE:g} s",
            "check that a doctor still answers there, in this folder",
        )
    if not partners and not silent:
        remedy = f"there: {command('doctor', '--logs', 'DIR', '--answer')}"
        yield Finding("note", "no other machine answers, so their view of the folder is unknown", remedy)


def _in_one_unit(delays: dict[str, float]) -> str:
    unit, factor, digits = ("s", 1, 1) if max(delays.values()) >= 1 else ("ms", 1000, 0)
    return ", ".join(f"{way} {factor * delay:.{digits}f}" for way, delay in delays.items()) + f" {unit}"


def find_partners(visit: Visit) -> tuple[dict[str, Folder], list[str]]:
    """The machines that answer, each with its folder; and the machines that came but do not answer."""
    ours = visit.mounts[0].name
    while True:
        there = [path for path in visit.logs.path.glob(".doctor-*.answers") if not is_left_over(path)]
        joined = [path for path in there if (path / ours / "seen").is_dir()]
        waited = time.monotonic() - visit.started
        if waited > PATIENCE or (waited > visit.wait and len(joined) == len(there)):
            silent = [_who(path) for path in there if path not in joined]
            return {_who(path): Folder(path / ours) for path in joined}, silent
        time.sleep(0.05)


def _who(path: Path) -> str:
    return path.name.removeprefix(".doctor-").removesuffix(".answers")


def converse(voice: Voice, ears: dict[str, Ear]) -> dict[str, dict[str, float]]:
    """Make a change in every way. Returns, for each partner, the seconds until its answer was seen."""
    heard: dict[str, dict[str, float]] = {who: {} for who in ears}
    for number, way in enumerate(WAYS):
        start = time.monotonic()
        voice.say(way)
        waiting = [who for who in ears if len(heard[who]) == number]
        while waiting and time.monotonic() - start < PATIENCE:
            for who in waiting:
                if ears[who].hears(way):
                    heard[who][way] = time.monotonic() - start
            waiting = [who for who in waiting if way not in heard[who]]
            time.sleep(0.002)
    return heard


def answer(logs: Path) -> int:
    """Answer every doctor that comes to this folder, for ten minutes or until Ctrl-C."""
    deadline, talks = time.monotonic() + ANSWERING, dict[str, Iterator[None]]()
    with scratch_in(logs, ".answers") as scratch, contextlib.suppress(KeyboardInterrupt):
        print(f"answering doctors of {logs} for {ANSWERING / 60:g} minutes; stop with Ctrl-C", flush=True)
        while time.monotonic() < deadline:
            doctors = {p.name: p for p in logs.glob(".doctor-*") if not p.name.endswith(".answers")}
            for name in talks.keys() - doctors.keys():
                del talks[name]
                shutil.rmtree(scratch / name, ignore_errors=True)
            for name, path in doctors.items():
                if name not in talks:
                    print(f"a doctor came: {printable(name.removeprefix('.doctor-'))}", flush=True)
                    talks[name] = echo(Folder(path / "voice"), Folder(scratch / name))
                next(talks[name], None)
            time.sleep(0.005 if talks else 0.2)
    return 0
