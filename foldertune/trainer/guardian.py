"""Starts a trainer together with its guardian, which ends the whole process group when the worker is dead.

    python guardian.py DESCRIPTOR COMMAND …

This process becomes the command. The descriptor is the end of a pipe whose other end only the worker has. A worker
that is killed can't end its trainer any more, and the trainer may hang, or leave processes of its own: so a process
that does nothing else watches over them.
"""

import os
import select
import signal
import sys

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def watch_over_group(life: int) -> None:
    """Fork the guardian. It belongs to the group, so it ends with it; nobody is its parent, so nobody waits for it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        for number in STOPPING:  # they are meant for those who train
            signal.signal(number, signal.SIG_IGN)
        os.dup2(life, 0)
        os.closerange(1, 65536)
        poll = select.poll()
        poll.register(0, 0)
        poll.poll()  # until the other end is closed
        os.killpg(0, signal.SIGKILL)
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
