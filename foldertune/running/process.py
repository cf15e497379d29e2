"""A trainer's process: what it prints and says, how it ended, and the end of everything that it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from foldertune.running.signals import StopSignals
from foldertune.text import ending
from foldertune.trainer import guardian
from foldertune.trainer.channel import CHUNK, Channel

PATIENCE = 5.0  # seconds for a process that must end anyway, to do so in its own way


class Process:
    """A command in a process group of its own. The whole group ends with this process, whatever happens to it.

    Args:
        signals: a signal ends every wait.
        on_output: called with each piece of what the command prints.
        channel: our end of the line to the command, if it has one.
        keep: descriptors that the command inherits.
        environment: its environment variables; None: ours.

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
    ) -> None:
        self.how: str | None = None
        self.code: int | None = None
        self._signals, self._on_output, self._lines = signals, on_output, [channel] if channel else []
        self._group_has_until = 0.0
        life, self._life = os.pipe()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        self._printers = [self._output]  # until nobody has it open any more
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, str(life), *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(life, *keep),
                start_new_session=True, env=environment,
            )  # fmt: skip
        finally:
            os.close(life)
            os.close(output)

    def listen(self, seconds: float) -> bool:
        """Hear what comes within this time. False if nothing came, or a signal, or the process has ended."""
        sources: list[Any] = [self._signals, *self._printers, *self._lines]
        unsent = [line for line in self._lines if line.has_unsent]
        ready, writable, _ = select.select(sources, unsent, [], max(seconds, 0))
        if self._output in ready:
            self._read_output()
        for line in writable:
            with contextlib.suppress(OSError):  # it has ended: we will see
                line.send()
        if any(line in ready and not line.receive() for line in self._lines):
            self._lines = []
            self.end(PATIENCE, "closed its line to the worker")
            return False
        if self._signals in ready:
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
            or os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        )

    def _bury(self, how: str | None = None) -> None:
        """Kill what is left of the group, hear its last words, and close our descriptors."""
        if self.has_ended():
            self._wait_for_group()
        self.signal_group(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver: not even SIGKILL ends it
            self.code = self._process.wait(PATIENCE)
        self.how = how or ending(self._process.returncode)
        self._read_output()
        for line in self._lines:
            line.receive()
        with contextlib.suppress(OSError):
            os.write(self._life, b".")  # so the guardian need not end a group that is gone
        os.close(self._life)
        os.close(self._output)

    def _wait_for_group(self) -> None:
        """Wait for those that were asked to end, and still save what they have learnt."""
        while time.monotonic() < self._group_has_until and not self._signals.impatient:
            self._process.poll()
            try:
                os.killpg(self._process.pid, 0)
            except OSError:
                return
            self._read_output()
            time.sleep(0.02)

    def _read_output(self) -> None:
        """Pass on what was printed."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, CHUNK):
                self._on_output(data)
            self._printers = []
