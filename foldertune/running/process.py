"""A trainer's process: what it prints and says, how it ended, and the end of everything that it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence

from foldertune.running.memory import MemoryWatch, in_words
from foldertune.running.signals import StopSignals
from foldertune.text import ending
from foldertune.trainer import guardian
from foldertune.trainer.channel import CHUNK, Channel

MOST_READS = 64  # at a time: more than pipe and socket hold; who writes without end must not keep us here
PATIENCE = 5.0  # seconds for a process that must end anyway, to do so in its own way


class Process:
    """A command in a process group of its own. The whole group ends with this process, whatever happens to it.

    Args:
        signals: a signal ends every wait.
        on_output: called with each piece of what the command prints.
        channel: our end of the line to the command, if it has one.
        keep: descriptors that the command inherits.
        environment: its environment variables; None: ours.
        memory: bytes that it may take together with all that it has started; None: no limit.

    Attributes:
        how: how the command ended; None while it runs.
        code: its exit code.
    """

    def __init__(
        self,
        command: Sequence[str],
        signals: StopSignals,
        on_output: Callable[[bytes], None],
        channel: Channel | None = None,
        keep: Sequence[int] = (),
        environment: dict[str, str] | None = None,
        memory: int | None = None,
    ) -> None:
        self.how: str | None = None
        self.code: int | None = None
        self._signals, self._on_output, self._line = signals, on_output, channel
        self._group_has_until = 0.0
        life, self._life = os.pipe()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        self._sources = {self._output} | ({channel.fileno()} if channel else set())  # until nobody has them open
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, str(life), *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(life, *keep),
                start_new_session=True, env=environment,
            )  # fmt: skip
        except BaseException:
            os.close(self._life)
            os.close(self._output)
            raise
        finally:
            os.close(life)
            os.close(output)
        self._memory = MemoryWatch(self._process.pid, memory) if memory else None

    def listen(self, seconds: float) -> bool:
        """Hear what comes within this time. False if nothing came, or a signal, or the process has ended."""
        if self._memory:
            if self._memory.finds_too_much():
                self._bury(f"took more than {in_words(self._memory.limit)} of memory")
                return False
            seconds = min(seconds, self._memory.seconds_to_next_look())
        line, ear = self._line, self._signals.fileno()
        unsent = [line.fileno()] if line and line.has_unsent else []
        ready, writable, _ = select.select([ear, *self._sources], unsent, [], max(seconds, 0))
        if self._output in ready:
            self.read_output()
        if line and writable:
            with contextlib.suppress(OSError):  # it has ended: we will see
                line.send()
        if line and line.fileno() in ready and not line.receive():
            self._sources.discard(line.fileno())
            self._line = None
            self.end(PATIENCE, "closed its line to the worker")
            return False
        if ear in ready:
            self._signals.clear()
        elif ready or writable:
            return True
        if self.has_ended():
            self._bury()
        return False

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        if self.how is None:
            self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to this process and to all that it has started: a shell does not pass it on."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def end_group(self, seconds: float) -> None:
        """Ask all processes of the group to end. Those that outlive the first one have so many seconds for that."""
        self._group_has_until = time.monotonic() + seconds
        self.signal_group(signal.SIGTERM)

    def end(self, seconds: float, otherwise: str = "was ended by the worker") -> None:
        """Wait until the process has ended by itself, for so many seconds at most. Then kill its whole group."""
        deadline = time.monotonic() + seconds
        while self.how is None and not self._signals.impatient and (left := deadline - time.monotonic()) > 0:
            self.listen(min(left, 0.1))
        if self.how is None:
            self._bury(None if self.has_ended() else otherwise)

    def has_ended(self) -> bool:
        """Has it ended? It is not reaped yet, so its number still belongs to its group."""
        return (
            self.how is not None
            or self._process.returncode is not None  # `send_signal` has reaped it, or `poll`
            or os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        )

    def _bury(self, how: str | None = None) -> None:
        """Kill what is left of the group, hear its last words, and close our descriptors."""
        if self.has_ended():
            self._wait_for_group()
        guardian.kill_family(self._process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver: not even SIGKILL ends it
            self.code = self._process.wait(PATIENCE)
        self.how = how or ending(self._process.returncode)
        self.read_output()
        for _ in range(MOST_READS):
            if not (self._line and self._line.receive_what_is_there()):
                break
        with contextlib.suppress(OSError):
            os.write(self._life, b".")  # so the guardian need not end a group that is gone
        os.close(self._life)
        os.close(self._output)
        reap_orphans(set())

    def _wait_for_group(self) -> None:
        """Wait for those that were asked to end, and still save what they have learnt."""
        while time.monotonic() < self._group_has_until and not self._signals.impatient:
            self._process.poll()
            try:
                os.killpg(self._process.pid, 0)
            except OSError:
                return
            self.read_output()
            time.sleep(0.02)

    def read_output(self) -> None:
        """Pass on what was printed, as far as it has come."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(MOST_READS):
                data = os.read(self._output, CHUNK)
                if not data:
                    self._sources.discard(self._output)
                    break
                self._on_output(data)


def reap_orphans(ours: Collection[int]) -> None:
    """As the first process of a container, wait for the guardians, which have no other parent. `ours` are kept."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in ours:
            os.waitpid(ended.si_pid, 0)
