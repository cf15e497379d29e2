"""Finds what a worker or a trial has said: the output kept beside a trial, and the log of a worker in the folder."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldertune.errors import UserError
from foldertune.protocol import BrokenFile, Folder, Record, TrialName, WorkerRecords, opened
from foldertune.reading.workers import Watch

_TRIAL = re.compile(r"(?:trial-)?0*(\d{1,12})(?:-(\d{1,9}))?(?:\.jsonl.*|\.txt)?", re.ASCII)
_LOG = re.compile(r"[^.].*\.(log|out|err)")
MOST_NAMED = 12  # names in a message


@dataclass(frozen=True)
class Voice:
    """One who says something, and where: a file in a directory of the folder, which may not be there yet."""

    title: str
    file: Path
    remark: Callable[[], str]  # how it ended, after what it said; empty: there is nothing to add
    is_over: Callable[[], bool]


def find_voices(folder: Folder, word: str) -> list[Voice]:
    """The attempts at a trial, or the worker, that this word names by any unambiguous part. Raises UserError."""
    if (match := _TRIAL.fullmatch(word)) and (found := list(_attempts(folder, int(match[1]), match[2]))):
        return found
    records, logs = WorkerRecords(folder), logs_in(folder)
    known = {owner: records.read(owner) for owner in records.owners()}
    known = dict(sorted(known.items(), key=lambda pair: (str(pair[1].get("started")), pair[0])))  # the latest is last
    found = [_log_of_file(folder, log) for log in logs if word in (log, Path(log).name, Path(log).stem)]
    found = found or _matching(folder, known, lambda text: text.lower() == word.lower())
    found = found or _matching(folder, known, lambda text: word.lower() in text.lower())
    found = found or [_log_of_file(folder, log) for log in logs if word.lower() in log.lower()]
    if len({voice.file for voice in found}) == 1:
        return found[-1:]
    if found:
        raise UserError(f"{word}: may be any of {_listed([voice.title for voice in found])}; give more of its name")
    there = [*(_title(owner, record) for owner, record in known.items()), *logs]
    raise UserError(f"{word}: no trial, worker or log of this name; there are {_listed(there) or 'none yet'}")


def logs_in(folder: Folder) -> list[str]:
    """The logs of workers that launchers keep in the folder: `worker-1.log`, `launch/slurm-4711_3.out`."""
    found = []
    for directory, prefix in ((folder.path, ""), (folder.launch, f"{folder.launch.name}/")):
        with contextlib.suppress(OSError), opened(directory) as inside:
            found += [f"{prefix}{name}" for name in sorted(os.listdir(inside)) if _LOG.fullmatch(name)]
    return found


def _matching(folder: Folder, known: dict[str, Record], fits: Callable[[str], bool]) -> list[Voice]:
    """The workers of which a name fits: the token, who started it and its number there, or the host."""
    found = []
    for owner, record in known.items():
        if any(isinstance(text, str) and fits(text) for text in (owner, record.get("launcher"), record.get("host"))):
            found.append(_voice_of(folder, owner, record))
    return found


def _voice_of(folder: Folder, owner: str, record: Record) -> Voice:
    """Where a worker writes. What its record says is data: only a log in the folder is opened."""
    log, host = record.get("log"), record.get("host")
    if isinstance(log, str) and log in logs_in(folder):
        return Voice(_title(owner, record), folder.path / log, _nothing, Watch(folder, owner).has_ended)
    where = f"{host}:{log}" if isinstance(log, str) else "its terminal, or a pipe"
    remark = f"it does not write into this folder, but to {where}"
    return Voice(_title(owner, record), folder.path / owner, lambda: remark, lambda: True)


def _log_of_file(folder: Folder, log: str) -> Voice:
    """A log that is asked for by its own name. Several workers may write into it, one after another."""
    records, logs, watches = WorkerRecords(folder), dict[str, Any](), dict[str, Watch]()

    def is_over() -> bool:
        folder.names()
        for owner in records.owners():
            if owner not in logs:
                logs[owner] = records.read(owner).get("log")
                if logs[owner] == log:
                    watches[owner] = Watch(folder, owner)
        ended = [watch.has_ended() for watch in watches.values()]
        return all(ended) if ended else folder.is_complete

    return Voice(log, folder.path / log, _nothing, is_over)


def _nothing() -> str:
    return ""


def _title(owner: str, record: Record) -> str:
    launcher = record.get("launcher")
    return f"{owner} ({launcher})" if isinstance(launcher, str) else owner


def _attempts(folder: Folder, number: int, attempt: str | None) -> Iterator[Voice]:
    """The attempts at a trial that were begun, in their order."""
    there = [name for name in (*folder.names(), *folder.settled()) if name.number == number]
    begun = {name.attempt: name for name in there if name.state != "pending"}
    with contextlib.suppress(OSError), opened(folder.output) as inside:  # given back: its file is that of the next
        for text in os.listdir(inside):
            if (match := _TRIAL.fullmatch(text)) and int(match[1]) == number:
                begun.setdefault(int(match[2] or 1), TrialName(number, int(match[2] or 1), "lost"))
    for each in sorted(begun):
        if attempt is None or each == int(attempt):
            yield _voice_of_attempt(folder, begun[each])


def _voice_of_attempt(folder: Folder, name: TrialName) -> Voice:
    def how_it_ended() -> str:
        for there in (name, *map(name.to, ("done", "seen", "lost"))):
            with contextlib.suppress(OSError, BrokenFile):
                trial = folder.read(there, epochs=False)
                return trial.traceback or trial.error or ""
        return ""

    title = f"trial {name.number}, attempt {name.attempt}"
    return Voice(title, folder.output_of(name), how_it_ended, lambda: name.state != "taken" or not folder.has(name))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
