"""Trains with any command: settings go into its words, its printed lines are the reports, its end is the result."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shlex
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from foldertune.errors import UserError, did_you_mean
from foldertune.nesting import DOT, flatten
from foldertune.protocol import BrokenFile, Record, TrialName, read_bytes
from foldertune.running import devices
from foldertune.running.process import Process
from foldertune.running.signals import SETTLE, StopSignals
from foldertune.running.trainer import Saving, Trainer
from foldertune.space import is_table_of_dimensions
from foldertune.trainer.channel import Message
from foldertune.trainer.metrics import as_metrics

RESULT = "result.json"  # the file in {out} that may hold the result
OWN = ("out", "device", "gpus", "trial", "attempt", "seed")  # words in braces that are no settings of the study
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf"
PAIRS = rf"(?<![\w./-])(?P<name>[A-Za-z_][\w./-]*)\s*[=:]\s*(?P<value>{_NUMBER})\b"
LONGEST_LINE = 2**20  # bytes
LONGEST_MATCHED = 2**12  # characters of a line in which a pattern looks: a careless one may take quadratic time

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}\s]+)\}")


class CommandTrainer(Trainer):
    """Trains each trial with a process of its own.

    Args:
        command: the command with words such as `{lr}`, `{model.width}` and `{out}`. No shell reads it.
        device: where to train. The command sees no other GPU.
        memory: bytes that the command may take, with all that it has started; None: no limit.
        pattern: finds values in lines that are not JSON. Its groups are the names; or, with groups `name` and `value`,
            it finds one pair after another.
    """

    advice = "; print it as JSON, or say how to read it: --pattern name=value"
    wants_out = True

    def __init__(
        self,
        signals: StopSignals,
        command: str,
        device: str,
        pattern: str | None = None,
        memory: int | None = None,
    ) -> None:
        super().__init__(signals, device, memory)
        self._words = split(command)
        self.saves_state = any("{out}" in word for word in self._words)  # there it finds what it has saved
        self._pattern = read_pattern(pattern) if pattern else None
        self._messages: deque[Message] = deque()
        self._line, self._result_file = b"", ""
        self._result_before: tuple[int, int] | None = None
        self._noted: set[str] = set()
        self._values: Record = {}
        self._is_stopping = False
        self._conditional: set[str] = set()

    def check(self, study: Record) -> None:
        """Raise UserError if the command names a setting that the study does not have."""
        space = flatten(study.get("space") or {}, is_table_of_dimensions)
        known = {**flatten(study.get("fixed") or {}), **space}
        self._conditional = {name for name, told in space.items() if isinstance(told, dict) and told.get("when")}
        for word in self._words:
            for match in _BRACES.finditer(word):
                name = match[1]
                if name and name not in known and name not in OWN:
                    raise UserError(
                        f"--command: {{{name}}} is no setting of this study{did_you_mean(name, [*known, *OWN])}; "
                        f"there are {', '.join([*known, *OWN])}; write {{{{ and }}}} for braces"
                    )

    def begin(self, name: TrialName, settings: Record, saving: Saving, out: str) -> None:
        """Start the command."""
        self._tail = self._line = b""
        self._messages, self._values, self._is_stopping = deque(), {}, False
        self._result_file, self._noted = os.path.abspath(os.path.join(out, RESULT)), set()
        self._result_before = _signature(self._result_file)
        shown = devices.show(self.device, alone=True, apart=self.apart)
        own = {"out": os.path.abspath(out), "device": shown.device, "gpus": str(shown.gpus)}
        own |= {"trial": str(name.number), "attempt": str(name.attempt)}
        values = Values(settings, own)
        try:
            absent = {name for name in self._conditional if name not in values}
            words = [fill_in(word, values) for word in without(self._words, absent)]
            self._process = Process(words, self._signals, self._hear, environment=shown.environment, memory=self.memory)
        except KeyError as error:  # a trial that was queued by hand
            self._messages.append({"error": f"--command: this trial has no setting {error}"})
        except ValueError as error:  # words that no command line can hold
            self._messages.append({"error": f"--command: {error}"})
        except OSError as error:
            if error.errno != errno.E2BIG:  # this machine is in trouble, not the trial
                raise UserError(f"no process can be started here: {error.strerror}; see ulimit -a") from None
            self._messages.append({"error": "--command: these settings make it too long"})

    def stop(self, how: str, grace: float) -> None:
        """Send SIGTERM to the command and to all that it has started. It may have ended by itself before a "report"."""
        if how == "report" and self._process and self._process.has_ended():
            return
        self._is_stopping = True
        if self._process:
            self._process.end_group(grace)

    def has_more_lines(self) -> bool:
        """Has the next message come already, and will it, too, become a line of the trial's file?"""
        return bool(self._messages) and "report" in self._messages[0]

    def _take(self) -> Message | None:
        return self._messages.popleft() if self._messages else None

    def _hear(self, data: bytes) -> None:
        super()._hear(data)
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[-LONGEST_LINE:]
        for line in lines:
            self._read(line)

    def _read(self, line: bytes) -> None:
        """Take the values from a line. With an epoch they are a report. The last value of each name is the result's."""
        found = read_values(line.rpartition(b"\r")[2].decode(errors="replace").strip(), self._pattern)
        values = as_metrics(found, self._note)
        epoch = values.pop("epoch", None)
        self._values |= values
        if isinstance(epoch, int | float) and math.isfinite(epoch):
            self._messages.append({"report": {"epoch": int(epoch) if epoch == int(epoch) else epoch, **values}})

    def _last_message(self) -> Message:
        line, self._line = self._line, b""
        self._read(line)  # it may lack its newline
        failed = self._process is None or self._process.code != 0
        if not self._is_stopping and failed:
            self._messages.append(super()._last_message())
        elif self._is_stopping or self._signals.wait(SETTLE):
            self._messages.append({"stopped": True})
        else:
            written = self._read_result() if self._result_is_new() else {**self._read_result(), **self._values}
            self._messages.append({"result": as_metrics({**self._values, **written}, self._note)})
        self._process = None
        return self._messages.popleft()

    def _read_result(self) -> Record:
        """What the result file holds."""
        try:
            written = json.loads(read_bytes(self._result_file))
        except BrokenFile as error:  # not a file, or much too large
            self._note(str(error))
            return {}
        except (OSError, ValueError, RecursionError):
            return {}
        return written if isinstance(written, dict) else {}

    def _result_is_new(self) -> bool:
        """Has this attempt written the result file? If an earlier one did, what is printed now counts more."""
        return _signature(self._result_file) != self._result_before

    def _note(self, message: str) -> None:
        if message not in self._noted:
            self._noted.add(message)
            self._messages.append({"say": message})


def _signature(path: str) -> tuple[int, int] | None:
    """A value that changes when the file is written; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def split(command: str) -> list[str]:
    """The words of a command, as a shell would read them. Raises UserError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--command: {error}") from None
    if not words:
        raise UserError("--command: is empty; write a command such as 'python train.py --lr {lr}'")
    return words


def read_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression that --pattern gives. Raises UserError."""
    try:
        compiled = re.compile(PAIRS if pattern == "name=value" else pattern)
    except re.error as error:
        raise UserError(f"--pattern {pattern}: is no regular expression: {error}") from None
    if not compiled.groupindex:
        raise UserError(f"--pattern {pattern}: has no named group, such as (?P<loss>\\S+)")
    return compiled


class Values(dict[str, Any]):
    """The settings of a trial by dotted names, and those of the worker. A name may also be that of a whole table."""

    def __init__(self, settings: Record, own: Record) -> None:
        super().__init__({**own, **flatten(settings)})
        self._settings = settings

    def __missing__(self, name: str) -> Any:
        found: Any = self._settings
        for part in name.split(DOT):
            if not isinstance(found, dict) or part not in found:
                raise KeyError(name)
            found = found[part]
        return found

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        return True


def without(words: Sequence[str], absent: Collection[str]) -> list[str]:
    """The words without those that name an absent setting. `--x {x}` is left out as a whole."""
    kept: list[str] = []
    for word in words:
        names = [match[1] for match in _BRACES.finditer(word) if match[1] in absent]
        if not names:
            kept.append(word)
        elif word == f"{{{names[0]}}}" and kept and kept[-1].startswith("-") and "=" not in kept[-1]:
            kept.pop()
    return kept


def fill_in(word: str, values: Record) -> str:
    """A word of the command with values in the place of names in braces. Raises KeyError."""
    braces = {"{{": "{", "}}": "}"}
    return _BRACES.sub(lambda match: braces.get(match[0]) or as_word(values[match[1]]), word)


def as_word(value: Any) -> str:
    """A setting as a word of a command line: text as it is, all else as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def read_values(line: str, pattern: re.Pattern[str] | None) -> Record:
    """The values in a printed line: those of a JSON object, or those that the pattern finds."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            return value if isinstance(value, dict) else {}
    if pattern is None:
        return {}
    if {"name", "value"} <= pattern.groupindex.keys():
        found = pattern.finditer(line[-LONGEST_MATCHED:])
        return {match["name"]: as_number(match["value"]) for match in found}
    match = pattern.search(line[-LONGEST_MATCHED:])
    return {name: as_number(text) for name, text in match.groupdict().items() if text is not None} if match else {}


def as_number(text: str) -> Any:
    """The number that a text spells, or the text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
