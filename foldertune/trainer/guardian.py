"""Starts a trainer together with its guardian, which ends the whole process group when the worker is dead.

    python guardian.py DESCRIPTOR COMMAND …

This process becomes the command. The descriptor is the end of a pipe whose other end only the worker has. A worker
that is killed can't end its trainer any more, and the trainer may hang, or leave processes of its own: so a process
that does nothing else watches over them.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # the module typing takes longer to load than all of this
if TYPE_CHECKING:
    from collections.abc import Callable

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def watch_over_group(life: int) -> None:
    """Fork the guardian of this process's group. Nobody is its parent, so nobody has to wait for it.

    It has a group of its own, so signals to the trainer's group don't reach it. It ends when it can read from the
    pipe: nothing, if the worker is dead; or a byte, by which the worker says that the group is gone already.
    """
    group, child = os.getpgrp(), os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        os.setpgid(0, 0)
        for number in STOPPING:  # a whole control group may get them; they are meant for those who train
            signal.signal(number, signal.SIG_IGN)
        os.dup2(life, 0)
        os.closerange(1, 65536)
        if not os.read(0, 1):
            kill_family(group)
    os._exit(0)


def kill_family(leader: int) -> None:
    """Kill a process, its group, and what descends from it: torchrun gives each of its processes a group of its own."""
    for kill, number in ((os.killpg, leader), *((os.kill, process) for process in family(leader))):
        try:  # noqa: SIM105 (contextlib takes longer to load than all of this)
            kill(number, signal.SIGKILL)
        except OSError:  # it has ended
            pass


def family(leader: int) -> list[int]:
    """A process and all that descend from it, as far as the system tells (Linux does)."""
    found = [leader]
    for process in found:
        for thread in look(os.listdir, f"/proc/{process}/task"):
            found += map(int, look(read_words, f"/proc/{process}/task/{thread}/children"))
    return found


def read_words(path: str) -> list[str]:
    """The words of a file."""
    with open(path) as file:
        return file.read().split()


def look(read: Callable[[str], list[str]], path: str) -> list[str]:
    """What a function reads there; nothing if the process has ended."""
    try:
        return read(path)
    except OSError:
        return []


if __name__ == "__main__":
    life, command = int(sys.argv[1]), sys.argv[2:]
    watch_over_group(life)
    os.close(life)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a command would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)
