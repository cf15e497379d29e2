"""Checks the search in the folder: its study, master, workers and leftovers. It changes nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from foldertune.changes import CHANGES, read_changes
from foldertune.doctor.visit import Finding, Visit, in_words, is_left_over
from foldertune.protocol import (
    DEFAULT_LEASE,
    REQUESTS,
    BrokenFile,
    Masters,
    TrialName,
    has_died,
    is_there,
    read_request,
    writer_of,
)
from foldertune.shipped import how_to_go_on
from foldertune.text import printable

SHOWN, LOOKED_INTO = 3, 1000  # the most trials that get a line of their own, and the most that are read


def check_master(visit: Visit) -> Iterator[Finding]:
    """Names the last master, and says whether it is known to have ended or died."""
    masters = Masters(visit.logs)
    number = masters.newest()
    holder = masters.holder(number) if number else None
    if holder is None:
        yield Finding("ok", "none has been here yet")
    elif not holder.claim:
        yield Finding(
            "note", f"{os.path.basename(masters.locate(number))} can't be read", "nothing: the next master follows it"
        )
    elif not holder.last_word and not has_died(holder.claim):
        silence = in_words(max(visit.server_time() - holder.signature[2] / 1e9, 0.0))
        yield Finding("ok", f"{printable(str(holder))}, silent for {silence}")
    elif not visit.names() or visit.logs.is_complete:
        yield Finding("ok", "none leads, and none is needed")
    else:
        gone = "has ended" if holder.last_word else "has died"
        yield Finding("note", f"{printable(str(holder))} {gone}", "start it again, with the same command")


def check_requests(visit: Visit) -> Iterator[Finding]:
    """Names what a person asks of all workers and the master."""
    logs = visit.logs.path
    there = [kind for kind in REQUESTS if is_there(logs / kind)]
    for kind in there:
        yield Finding("note", str(read_request(logs, kind)), how_to_go_on(logs))
    if not there:
        yield Finding("ok", "none")


def check_running(visit: Visit) -> Iterator[Finding]:
    """Lists the workers that have been silent longest, by the clock that stamps the files."""
    now, running = visit.server_time(), []
    for name in visit.names():
        if name.state == "taken":
            with contextlib.suppress(OSError):  # it was renamed meanwhile
                running.append((now - os.lstat(visit.logs.locate(name)).st_mtime, name))
    for silence, name in sorted(running, key=lambda pair: -pair[0])[:SHOWN]:
        yield _judge(visit, name, max(silence, 0.0))
    if len(running) != 0 and len(running) <= SHOWN:
        return
    yield Finding("ok", f"and {len(running) - SHOWN} more, silent for less time" if running else "no trial")


def _judge(visit: Visit, name: TrialName, silence: float) -> Finding:
    what = f"trial {name.label} by {name.owner}, silent for {in_words(silence)}"
    try:
        trial = visit.logs.read(name)
    except (OSError, BrokenFile):
        return Finding("ok", what)  # the file is gone; if it is broken, `check_leftovers` names it
    if has_died(trial.claim):
        return Finding(
            "note", f"trial {name.label}: its worker {name.owner} died", "nothing: the master tries it again"
        )
    if silence > (trial.lease or DEFAULT_LEASE):
        return Finding("note", f"{what}, longer than its lease", "nothing: a running master tries it again")
    return Finding("ok", what)


def check_leftovers(visit: Visit) -> Iterator[Finding]:
    """Names the files in the folder that are not part of a search, and says what to do with them."""
    found: dict[tuple[str, str], list[str]] = {}
    for parent in (visit.logs.path, visit.logs.seen):
        with contextlib.suppress(FileNotFoundError), os.scandir(parent) as entries:
            for entry in entries:
                if complaint := _complain(entry, visit):
                    found.setdefault(complaint, []).append(entry.name)
    for name in visit.names()[:LOOKED_INTO]:
        try:
            visit.logs.read(name)
        except (BrokenFile, PermissionError):
            if Path(visit.logs.locate(name)).is_file() and not Path(visit.logs.locate(name)).is_symlink():
                remedy = "nothing: the master sets it aside and tries the trial again"
                found.setdefault(("broken or unreadable", remedy), []).append(str(name))
        except OSError:
            continue
    for (what, remedy), names in found.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding("note", f"{printable(min(names))}{more}: {what}", remedy)
    if not found:
        yield Finding("ok", "none")


def _complain(entry: os.DirEntry[str], visit: Visit) -> tuple[str, str] | None:
    name, place = TrialName.parse(entry.name), Path(entry.path).parent
    if name is None:
        if writer_of(entry.name):
            return "half written", "nothing: the master removes it once its writer is gone"
        if entry.name.startswith(".doctor-") and is_left_over(Path(entry.path)):
            return "left by a doctor that was killed", "rm -r it"
        if entry.name.lower().startswith("trial-"):
            return "is not a trial's name, so no worker takes it", "mv it to a name such as trial-00007-1.jsonl"
        return None
    if not entry.is_file(follow_symlinks=False):
        return "is not a plain file", "move it away, or let the master set it aside"
    if Path(visit.logs.locate(name)).parent != place:
        return "lies in the wrong directory", f"mv it to {os.path.relpath(visit.logs.locate(name), visit.logs.path)}"
    return None


def _refuse(key: str, complaint: str) -> NoReturn:
    raise BrokenFile(f"study.json: {key}: {complaint}")


def check_study(visit: Visit) -> Iterator[Finding]:
    """Checks that study.json is there. It may be missing while all trials are pending: someone may have queued them."""
    try:
        study = visit.logs.read_study()
    except BrokenFile:
        remedy = "put a good copy back, or use another --logs to start afresh"
        yield Finding("bad", "study.json is broken: no master can start", remedy)
        return
    names = visit.names()
    if study is not None:
        name = printable(str(study.get("name", "")))
        yield Finding("ok", f"{name}: complete" if visit.logs.is_complete else name)
        try:
            for change in read_changes(study.get(CHANGES, []), _refuse):
                yield Finding("ok", printable(change.in_words()))
        except BrokenFile as error:
            yield Finding("bad", str(error), "put a good copy of study.json back")
    elif any(name.state != "pending" for name in (*names, *visit.logs.settled())):
        yield Finding("bad", "study.json is missing while trials are there", "put it back, or use another --logs")
    else:
        yield Finding("ok", "none yet: the first master writes it")
