"""Trains one trial of a study here and now, without a folder: does the training code work?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

from foldertune.errors import StudyError, UserError
from foldertune.nesting import nest
from foldertune.protocol import Record, Trial, TrialName, printable
from foldertune.running.signals import StopSignals
from foldertune.running.trainer import ROUND, Saving, Trainer
from foldertune.strategies import History, Proposal, new_strategy
from foldertune.study import Study
from foldertune.tables import finite
from foldertune.text import settings_in_a_line
from foldertune.trainer.channel import Message
from foldertune.trainer.report import Stopped


def try_trial(study: Study, number: int, trainer: Trainer, signals: StopSignals, say: Callable[[str], None]) -> int:
    """Train this trial of the study, with few epochs if the study says what its epochs are. Returns the exit code.

    Everything that a worker would write into the trial's file is said.
    """
    settings = first_settings(study, number)
    say(f"trial {number} of {study.name}: {printable(settings_in_a_line(settings))}")
    try:
        last = train(TrialName(number, 1), settings, trainer, signals, say)
    except Stopped:
        return 128 + signals.number
    except UserError as error:  # it can't be loaded
        for text in getattr(error, "__notes__", ()):
            say_lines(text, say)
        raise
    finally:
        trainer.end()
    say_lines(str(last.get("traceback", "")), say)
    trial = Trial(TrialName(number, 1), settings, result=last.get("result"), error=last.get("error"))
    if reason := trial.shortcoming(*study.metric_names):
        say(f"this trial fails: {printable(reason)}")
        return 1
    say(f"result: {printable(settings_in_a_line(last['result']))}")
    values = {name: last["result"].get(name) for name in study.metric_names if name in last["result"]}
    told = [
        f"{name} is {value}{', which counts as no value' * (finite(value) is None)}" for name, value in values.items()
    ]
    say(f"this trial succeeds: {', '.join(told)}")
    return 0


def first_settings(study: Study, number: int) -> Record:
    """The settings of this trial before there is any result, with few epochs. Raises StudyError if there is none."""
    proposal = new_strategy(study).propose(number, History()) if number < study.most_trials else None
    if not isinstance(proposal, Proposal):
        raise StudyError(f"--try {number}: {study.name} has trials 0 to {study.trials - 1}")
    return study.fidelity.shorten(proposal.settings) if study.fidelity else proposal.settings


def train(
    name: TrialName, settings: Record, trainer: Trainer, signals: StopSignals, say: Callable[[str], None]
) -> Message:
    """Train, and say what is reported. Returns the last message. Raises Stopped when a signal comes."""
    trainer.prepare()
    with tempfile.TemporaryDirectory() as out:
        trainer.begin(name, nest(settings), Saving(), out)
        while not signals.number:
            message = trainer.next(time.monotonic() + ROUND) or {}
            if "report" in message:
                say(printable(settings_in_a_line(message["report"])))
            elif "resume" in message:
                trainer.send({"checkpoint": None})
            elif "say" in message:
                say(printable(message["say"]))
            elif not message.keys().isdisjoint(("result", "error", "stopped")):
                return message
        trainer.stop("now", 0)
    raise Stopped


def say_lines(text: str, say: Callable[[str], None]) -> None:
    """Say each line of a traceback."""
    for line in text.splitlines():
        say(printable(line))
