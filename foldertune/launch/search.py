"""Runs a master, together with the workers of its machine, until the search has ended."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

from foldertune.launch import Launcher
from foldertune.protocol import A_TICK, STOP, lack_of_rights
from foldertune.running.fault import Fault
from foldertune.running.master import Master
from foldertune.running.remote import Remote
from foldertune.running.signals import StopSignals
from foldertune.trouble import Trouble

NO_WORKER, ALL_FAILED, STOPPED = 1, 3, 4  # exit codes
SHORTEST_WAIT, LONGEST_WAIT, LOOKS_PER_LEASE = 0.01, 1.0, 20  # seconds between two looks at the folder
SHORT_WAIT = 0.05  # the longest while our own workers start: then all of them claim trials at once


def run(
    master: Master,
    workers: Launcher | None,
    fault: Fault | None,
    signals: StopSignals,
    show: Callable[[], None],
    in_trouble: Callable[[OSError], None] = lambda error: None,
) -> int:
    """Take one step after another, with longer pauses while nothing happens. Returns the exit code."""
    wait, trouble = SHORTEST_WAIT, Trouble(master.say, partial(lack_of_rights, master.folder.path))
    longest_wait = min(LONGEST_WAIT, master.lease / LOOKS_PER_LEASE)
    gc.freeze()  # what is loaded stays: no collection need look at it
    remote = Remote(master.folder, signals, master.say)
    unstirred = True  # has the folder changed since we stirred it?
    while not signals.wait(wait):
        moved = False
        try:
            moved = master.step()
            unstirred |= moved
            if unstirred and not moved and wait >= A_TICK:
                master.folder.stir()
                unstirred = False
            if master.is_done():
                master.conclude()
                return ALL_FAILED if master.ledger.all_have_failed() else 0
            if fault and fault.is_there(master.in_hand):
                master.say("stopped, because all trials fail in the same way")
                return ALL_FAILED
            if is_stopped(master, remote):
                return STOPPED
            show()
            if workers:
                workers.look_after(lambda: master.ledger.ended)
            trouble.is_over()
        except OSError as error:  # a full disk or a restarting server: the step can be repeated
            trouble.is_there(error)
            in_trouble(error)
            if is_stopped(master, remote):  # seen in a listing before the trouble came, as on a full disk
                return STOPPED
        quiet = not moved and wait >= longest_wait  # nothing has happened for some seconds
        is_alone = workers and workers.all_gone and not (remote.is_halted() or remote.has_ended_workers)
        if is_alone and quiet and not master.someone_works():
            master.say("no worker is left on this machine, and none works elsewhere")
            return NO_WORKER
        is_expecting = workers and not (workers.all_gone or master.ledger.ended or master.someone_works())
        wait = SHORTEST_WAIT if moved else min(1.5 * wait, SHORT_WAIT if is_expecting else longest_wait)
    return 128 + signals.number


def is_stopped(master: Master, remote: Remote) -> bool:
    """Has a person stopped all? If somebody has asked for anything that is news, say so."""
    return remote.is_halted() and master.folder.halt == STOP and not master.folder.is_ended
