"""Obeys what a person asks of everybody by files in the folder: pause, drain, stop. `protocol/requests.py` has them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from foldertune.protocol import (
    DRAIN,
    END,
    PAUSE,
    STOP,
    Folder,
    Heartbeat,
    Record,
    Request,
    is_there,
    read_object,
    read_request,
    remove_request,
)
from foldertune.running.signals import StopSignals
from foldertune.shipped import how_to_go_on
from foldertune.trainer.report import Stopped

MEANINGS = {
    PAUSE: "no worker takes a trial",
    DRAIN: "workers end after the trial in hand",
    STOP: "workers give their trials back and end",
}
ENDS_WORKERS = (DRAIN, STOP)


def request_to_end(folder: Folder, halts: Sequence[str] = ENDS_WORKERS) -> Request | None:
    """The request of these that stands in the folder, if there is one."""
    with contextlib.suppress(OSError):  # then we have not seen it yet
        folder.look_for_requests()
    return read_request(folder.path, folder.halt) if folder.halt in halts else None


def lift_end(folder: Folder, new_definition: Callable[[], Record], say: Callable[[str], None]) -> None:
    """Go on with a study that a person has ended, if it has another budget now than it had."""
    if not is_there(folder.path / END):
        return
    there = read_object(folder.study_file())
    wanted = new_definition()
    if any(there.get(limit) != wanted.get(limit) for limit in ("trials", "budget")):
        say(f"{folder.path}: was {read_request(folder.path, END)}; it goes on")
        remove_request(folder.path, END)


class Remote:
    """What a worker or a master does about such requests. It says each once.

    Attributes:
        request: the request that ends this process; None while there is none.
        has_ended_workers: was there a request that ends workers?
    """

    def __init__(self, folder: Folder, signals: StopSignals, say: Callable[[str], None]) -> None:
        self._folder, self._signals, self._say = folder, signals, say
        self._told = ""
        self.request: Request | None = None
        self.has_ended_workers = False

    def begin(self, heartbeat: Heartbeat) -> None:
        """Look, and have the heartbeat's thread do so again and again. Raises Stopped if we are to end at once."""
        self.request = request_to_end(self._folder)
        if self.request:
            raise Stopped
        heartbeat.look = self.look

    def look(self) -> None:
        """Look for a request to stop, which comes to a worker like a signal. From the heartbeat's thread."""
        with contextlib.suppress(OSError):
            self._folder.look_for(STOP)
        if self._folder.halt == STOP:
            self._signals.ask()

    def ends(self, halts: Sequence[str] = ENDS_WORKERS) -> bool:
        """Does one of these requests end this process? By the last look at the folder."""
        if self._folder.halt in halts and not self.request:
            self.request = read_request(self._folder.path, self._folder.halt)
        return self.request is not None

    def is_halted(self) -> bool:
        """Does a request stand there? If that is news, say so."""
        if self._folder.halt != self._told:
            self._told = self._folder.halt
            self.has_ended_workers |= self._told in ENDS_WORKERS
            self._say(self._news())
        return bool(self._told)

    def _news(self) -> str:
        if self._told:
            request = read_request(self._folder.path, self._told)
            return f"{request}: {MEANINGS[self._told]}; {how_to_go_on(self._folder.path)}"
        return "resumed" + ("; workers that have ended must be started again" if self.has_ended_workers else "")

    # ---- the end of a worker

    @property
    def why(self) -> str:
        """Why this worker stops: a request, which comes to it like a signal, or a signal; empty if it does not."""
        if self._signals.number:  # it may be from a master that has seen the request before us
            with contextlib.suppress(OSError):
                self._folder.names()
        return str(self.request) if self.ends() else self._signals.name

    @property
    def last_word(self) -> str:
        """What this worker says of it; empty if neither came, or if all is done and its master has sent the signal."""
        why = self.why
        if self.ends():
            return f"{why}, {how_to_go_on(self._folder.path)}"
        return "" if self._folder.is_complete else self._signals.reason

    @property
    def exit_code(self) -> int:
        """That of a program that a signal has stopped; 0 if none has, or for a request, or if all is done."""
        return 0 if self.ends() or self._folder.is_complete else self._signals.exit_code
