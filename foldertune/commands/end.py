"""Finish the study now: no more trials begin, and what there is are its results.

    {program} --logs /shared/me/lr           trials that run are finished and counted
    {program} --logs /shared/me/lr --now     they are given back, and do not count

What is pending is withdrawn, and kept in seen/. If a master leads the search,
it does so; otherwise this command leads until the study is complete. To go on
later, start the master with a budget: {master} STUDY --trials N
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from foldertune.commands.asking import make_seen
from foldertune.commands.options import add_logs
from foldertune.errors import UserError
from foldertune.launch.search import run
from foldertune.protocol import DEFAULT_LEASE, END, STOP, LedFolder, make_request
from foldertune.reading.archive import open_study
from foldertune.running.master import Master
from foldertune.running.mastership import FolderIsLed, only_master
from foldertune.running.saying import tell
from foldertune.running.signals import StopSignals
from foldertune.running.waiting import Interrupted, outlast
from foldertune.shipped import command
from foldertune.study import Study
from foldertune.text import counted

MAX_ATTEMPTS = 3  # of trials that are lost meanwhile: they are withdrawn, and none is tried again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)
    parser.add_argument(
        "--now", action="store_true", help="workers save the trials that run, give them back and end, as after stop"
    )


def main(arguments: argparse.Namespace) -> int:
    """Ask for the end, and bring it about if no master does. Returns the exit code. Raises UserError."""
    logs, say = arguments.logs, tell
    folder, study = open_study(logs)
    folder.names()
    if folder.is_complete:
        raise UserError(f"{logs}: the study is complete already")
    for kind in (END, STOP) if arguments.now else (END,):
        make_request(logs, kind)
    make_seen(folder)
    try:
        with only_master(logs, say=say) as led:
            return finish(led, study)
    except FolderIsLed:
        say(f"{logs}: its master ends the study; see: {command('status', '--logs', logs)}")
        return 0


def finish(folder: LedFolder, study: Study) -> int:
    """Lead the search until it is complete. Returns the exit code: 0, or 128 + the signal that stopped it."""
    signals, say = StopSignals(), tell
    signals.listen()
    # No trial is proposed any more. The study's own strategy is not even made: it may be a person's code.
    master = Master(folder, replace(study, strategy="random", changes=()), DEFAULT_LEASE, MAX_ATTEMPTS, say=say)
    master.study = study
    try:
        outlast(folder, master.take_stock, signals, say)
        code = run(master, None, None, signals, lambda: None)
    except Interrupted:
        code = 128 + signals.number
    if code in (0, 3):
        say(f"{folder.path}: complete, with {counted(len(master.ledger.counted), 'trial')}")
        return 0
    say(f"{folder.path}: not complete yet: the next master, or this command again, waits for the trials that run")
    return code
