"""The doctor's own processes, which act at the same moment. None of them outlives the doctor."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STUCK = 20.0  # seconds; the work itself takes milliseconds
BRISK = 0.002  # seconds for which a process waits without sleeping: those of a disk are at the line by then


@contextlib.contextmanager
def processes(works: Sequence[Callable[[], Any]]) -> Iterator[list[Connection]]:
    """Run each work in a process of its own. A work begins when its pipe gets an object. The block's end kills it."""
    import multiprocessing

    context, pipes, started = multiprocessing.get_context("fork"), [], []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        for work in works:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(work, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            started.append(process)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield pipes
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for process in started:
            process.kill()
        for process in started:
            process.join()


def _work(work: Callable[[], Any], pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the doctor, which ends us
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    with contextlib.suppress(EOFError, BrokenPipeError):  # the doctor was killed
        pipe.recv()
        try:
            result = work()
        except Exception as error:  # `together` raises it again
            result = error
        pipe.send(result)


def together(works: Sequence[Callable[[], Any]], seconds: float = STUCK) -> list[Any]:
    """Run all works at the same moment and return their results. Raises the first error of a work, or TimeoutError."""
    from multiprocessing.connection import Connection, wait

    deadline, results = time.monotonic() + seconds, dict[Connection, Any]()
    with processes(works) as pipes:
        for pipe in pipes:
            pipe.send(None)
        while len(results) < len(pipes):
            ready = wait([pipe for pipe in pipes if pipe not in results], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            for pipe in (pipe for pipe in pipes if pipe in ready):
                try:
                    results[pipe] = pipe.recv()
                except EOFError:
                    raise OSError("a process of the doctor was killed") from None
                if isinstance(results[pipe], Exception):
                    raise results[pipe]
    return [results[pipe] for pipe in pipes]


class StartLine:
    """Makes processes wait for each other before every step. Without it, the first would end before the last begins."""

    def __init__(self, count: int) -> None:
        self._steps = mmap.mmap(-1, count)  # the step that each process has reached; all processes share it

    def wait(self, who: int, step: int) -> None:
        """Return when all processes have reached this step. Raises TimeoutError if one does not come."""
        self._steps[who] = step + 1
        start = time.monotonic()
        while min(self._steps[:]) <= step:
            waited = time.monotonic() - start
            if waited > STUCK:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if waited < BRISK:
                os.sched_yield()
            else:  # the others wait for a server: leave them the processor
                time.sleep(BRISK / 10)
