"""What a master tells a person who does not watch: the end, a new best, and that the search is stuck."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from foldertune.launch.notifier import Notifier
from foldertune.protocol import host_name, printable
from foldertune.reading.alarms import alarms
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import best_line
from foldertune.study import Study

AFTER = 60.0  # seconds for which machines or work stand idle before it is said
TROUBLE_AFTER = 600.0  # seconds of trouble with the folder before it is told
BEST_EVERY = 600.0  # seconds between two messages about a new best


def add_notify(parser: argparse.ArgumentParser) -> None:
    """Add the option --notify."""
    parser.add_argument_group("messages").add_argument(
        "--notify", metavar="COMMAND",
        help="run COMMAND when the search is complete, is stuck, or (every ten minutes at most) has beaten its best: "
        "$FOLDERTUNE_EVENT is complete, stuck or best, $FOLDERTUNE_MESSAGE says it in words; see docs/cluster.md",
    )  # fmt: skip


class Messages:
    """Notices what is to be told, in the results that the master reads anyway.

    Args:
        command: of --notify; None: only alarms are said, in the master's own output.
        say: called with each alarm.
    """

    def __init__(
        self,
        command: str | None,
        logs: Path,
        study: Study,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = Notifier(command, say) if command else None
        self._facts = {"LOGS": str(logs.absolute()), "STUDY": study.name, "METRIC": study.metric, "HOST": host_name()}
        self._say, self._clock = say, clock
        self._since = self._in_trouble_since = math.inf  # of the alarm, and of the trouble; inf: none
        self._told, self._told_trouble = "", False
        self._best: int | None = None  # the number of the best trial, as last told
        self._next_best = -math.inf

    def look(self, results: Results) -> None:
        """Look at the results so far: has an alarm lasted, has a trial beaten the best?"""
        self._in_trouble_since, self._told_trouble = math.inf, False
        self._look_at_alarm(next(iter(alarms(results)), ""), is_stuck=bool(results.pending))
        if self._notifier:
            self._notifier.look()
            if self._clock() >= self._next_best:
                self._look_at_best(results)

    def trouble(self, error: OSError) -> None:
        """The folder is in trouble. It is told once that has lasted for long."""
        self._in_trouble_since = min(self._in_trouble_since, self._clock())
        if self._clock() - self._in_trouble_since > TROUBLE_AFTER and not self._told_trouble:
            self._told_trouble = True
            self._tell("stuck", f"the folder is in trouble: {error}")
        if self._notifier:
            self._notifier.look()

    def end(self, results: Results, why_stuck: str = "") -> None:
        """The search has ended: it is complete, or stuck for this reason."""
        if self._notifier:
            self._tell("stuck" if why_stuck else "complete", why_stuck or "the search is complete", results)
            self._notifier.finish()

    def _look_at_alarm(self, alarm: str, *, is_stuck: bool) -> None:
        if not alarm:
            self._since, self._told = math.inf, ""
        self._since = min(self._since, self._clock())
        kind = "".join(letter for letter in alarm if not letter.isdigit())
        if alarm and kind != self._told and self._clock() - self._since >= AFTER:
            self._told = kind
            self._say(alarm)
            if is_stuck:  # workers that wait for the strategy are worth a line, and no message
                self._tell("stuck", alarm)

    def _look_at_best(self, results: Results) -> None:
        if results.best is None:
            return
        number, before = results.best[0][0].name.number, self._best
        self._best = number
        if before is not None and before != number:
            self._next_best = self._clock() + BEST_EVERY
            self._tell("best", f"trial {number} is the best so far", results)

    def _tell(self, event: str, message: str, results: Results | None = None) -> None:
        if self._notifier is None:
            return
        facts = {**self._facts, "MESSAGE": f"{self._facts['STUDY']}: {message}"}
        if results and results.best:
            (trial, *_), sample = results.best
            number, value = str(trial.name.number), f"{sample.mean:.6g}"
            facts |= {"TRIAL": number, "VALUE": value, "SETTINGS": json.dumps(trial.settings)}
            facts["MESSAGE"] += f"; {best_line(results)}"
        self._notifier.tell(event, {name: printable(text) for name, text in facts.items()})
