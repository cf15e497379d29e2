"""Makes sure that a folder has only one master, and that it belongs to this study."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldertune.errors import StudyError, UserError
from foldertune.protocol import Folder, host_name, make_directory, share, utc_now, write_whole
from foldertune.study import Study, differences
from foldertune.study_file import study_from_record

LOCK, HOLDER = ".master.lock", ".master.json"


@contextmanager
def only_master(logs: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises UserError, naming the other master, if there is one."""
    from filelock import FileLock, Timeout

    if Folder(logs).is_kept():
        raise UserError(f"{logs}: is a finished study in its small form; search in another folder (--logs)")
    try:
        make_directory(logs)
    except FileExistsError:
        raise UserError(f"--logs {logs}: is not a directory") from None
    lock, holder = FileLock(logs / LOCK, timeout=0), logs / HOLDER
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{logs}: {_describe(holder)}; end that master first, or use another --logs") from None
    except NotImplementedError:
        print(f"{logs}: this filesystem has no locks; make sure that no other master runs here", file=sys.stderr)
    try:
        with open(lock.lock_file) as file:
            share(file.fileno(), str(logs))
        who = {"pid": os.getpid(), "host": host_name(), "since": utc_now()}
        write_whole(holder, json.dumps(who).encode())
        yield
    finally:
        lock.release()


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} on {who['host']} has been searching here since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another master is searching here"


def open_folder(logs: Path, study: Study) -> Folder:
    """The folder, ready for this study. Raises StudyError, naming the differences, if another study has begun in it."""
    folder = Folder(logs)
    folder.prepare()
    record, names = folder.read_study(), [*folder.names(), *folder.settled()]
    if record is None:
        if any(name.state != "pending" for name in names):  # a person may queue pending trials before the first master
            raise StudyError(f"{logs}: holds trials but no study.json; put it back, or use another --logs")
        return folder
    there = study_from_record(record, str(folder.study_file()))
    if differing := differences(there, study):
        raise StudyError(
            f"{logs}: another study has begun here; it differs in {', '.join(differing)}; "
            f"use another --logs, or change it back"
        )
    beyond = max((name.number for name in names if name.number < there.trials), default=-1)
    if beyond >= study.trials:
        raise StudyError(
            f"{logs}: has begun with trial {beyond} of {there.trials} already, "
            f"more than the {study.trials} asked for now; continue with --trials {there.trials}, or use another --logs"
        )
    return folder
