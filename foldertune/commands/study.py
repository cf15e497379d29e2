"""The study that a master's command line asks for, and whether it can be searched so."""

from __future__ import annotations

import argparse

from foldertune.budget import Budget
from foldertune.commands.first import with_first
from foldertune.commands.first_look import check_settings
from foldertune.commands.machine import check_machine, place
from foldertune.errors import UserError, require
from foldertune.running.command import CommandTrainer
from foldertune.running.signals import StopSignals
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE
from foldertune.strategies import load
from foldertune.study import Study


def study_of(arguments: argparse.Namespace) -> Study:
    """The study that the command line asks for. Raises UserError if it can't be searched so."""
    study = with_first(arguments, load(
        arguments.study, trials=arguments.trials, seed=arguments.seed, repeats=arguments.repeats,
        budget=Budget(arguments.epochs, arguments.hours, arguments.target, arguments.patience),
        strategy=arguments.strategy, stopping=arguments.stopping,
        workers=len(place(arguments)) if arguments.workers is None else arguments.workers,
        is_warm=arguments.known is not None,
        objective=COMMAND_OBJECTIVE if arguments.command else DEFAULT_OBJECTIVE,
    ))  # fmt: skip
    check_machine(arguments)
    check_command(study, arguments)
    check_settings(study, arguments.study)
    if study.objective == DEFAULT_OBJECTIVE and (arguments.workers != 0 or arguments.try_trial is not None):
        require("exercise")
    return study


def check_command(study: Study, arguments: argparse.Namespace) -> None:
    """Raise UserError if workers of this machine can't train with --command, or can't train without it."""
    if arguments.command and study.objective != COMMAND_OBJECTIVE:
        raise UserError(
            f"--command: the study {study.name} has the objective '{study.objective}'; "
            f'write objective = "{COMMAND_OBJECTIVE}" in its file'
        )
    if arguments.pattern and not arguments.command:
        raise UserError("--pattern: is for the lines that a command prints; add --command")
    trains_here = arguments.workers != 0 or arguments.try_trial is not None
    if not arguments.command and study.objective == COMMAND_OBJECTIVE and trains_here:
        raise UserError(
            f"{arguments.study}: a command trains this study; add --command '…', or --workers 0 to start none here"
        )
    if arguments.command:
        CommandTrainer(StopSignals(), arguments.command, arguments.device, arguments.pattern).check(study.to_record())
