"""Runs a person's command with the facts of an event in its environment: mail, Slack and ntfy are one line each."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from foldertune.text import ending, printable

PREFIX = "FOLDERTUNE_"
LONGEST = 60.0  # seconds that the command may take
LAST_WAIT = 15.0  # seconds for what is still to be told when the master ends
MOST_SAID = 200  # characters of what a failing command says
TAIL = 4096


class Notifier:
    """Never waits for the command, and runs it once at a time. If it fails, that is one line.

    Args:
        command: read by a shell, as the person typed it. The facts come to it as environment variables only.
        say: called with a line about each failure.
    """

    def __init__(self, command: str, say: Callable[[str], None]) -> None:
        self._command, self._say = command, say
        self._waiting: dict[str, Mapping[str, str]] = {}  # by event: only the latest of a kind is worth telling
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._until = 0.0

    def tell(self, event: str, facts: Mapping[str, str]) -> None:
        """Run the command for this event as soon as no other one runs."""
        self._waiting[event] = {"EVENT": event, **facts}
        self.look()

    def look(self) -> None:
        """See whether the command has ended, and start the next one."""
        if self._process:
            code = self._process.poll()
            if code is None and time.monotonic() > self._until:
                with suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
                self._end(f"took longer than {LONGEST:g} s")
            elif code is not None:
                self._end(ending(code) if code else "")
        if not self._process and self._waiting:
            self._start(self._waiting.pop(next(iter(self._waiting))))

    def finish(self) -> None:
        """Tell what is still to be told, before the master ends."""
        deadline = time.monotonic() + LAST_WAIT
        while (self._process or self._waiting) and time.monotonic() < deadline:
            self.look()
            time.sleep(0.05)

    def _start(self, facts: Mapping[str, str]) -> None:
        facts = {f"{PREFIX}{name}": value.replace("\0", "") for name, value in facts.items()}
        self._until = time.monotonic() + LONGEST
        with suppress(OSError):  # its disk may be full; then nobody hears what the command says
            self._output = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            output = self._output or subprocess.DEVNULL
            self._process = subprocess.Popen(
                self._command, shell=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env={**os.environ, **facts},
            )  # fmt: skip
        except OSError as error:
            self._end(str(error))

    def _end(self, failure: str) -> None:
        if failure:
            last = ""
            if self._output:
                self._output.seek(max(self._output.seek(0, os.SEEK_END) - TAIL, 0))
                last = self._output.read().decode(errors="replace").strip().rpartition("\n")[2]
            self._say(f"--notify {failure}{': ' if last else ''}{printable(last)[:MOST_SAID]}")
        if self._output:
            self._output.close()
        self._process = self._output = None
