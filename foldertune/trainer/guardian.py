"""Starts a trainer together with its guardian, which ends the whole process group when the worker is dead.

    python guardian.py DESCRIPTOR COMMAND …

This process becomes the command. The descriptor is the end of a pipe whose other end only the worker has. A worker
that is killed can't end its trainer any more, and the trainer may hang, or leave processes of its own: so a process
that does nothing else watches over them.
"""

import os
import signal
import sys

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
            os.killpg(group, signal.SIGKILL)
    os._exit(0)


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
