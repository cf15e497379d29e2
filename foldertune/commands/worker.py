"""Take trials from a shared folder, train them, and hand in their results.

    {program}                          the folder logs/
    {program} --logs /shared/me/lr     on any machine that mounts it
    {program} --device all             one per GPU, or one per core
    {program} --objective mine:train   your own training code, mine.py
    {program} --command 'python train.py --lr {lr}'

Start workers before or after the master, as many as you like. A worker waits
while there is no work, and ends when the study is complete. Ctrl-C, SIGTERM
and SIGUSR1 (Slurm's warning) make it save its trial and give it back, so that
another worker resumes it. It then ends with 128 + the signal's number, but
with 0 in a job of Slurm's, and with 2 after an error that a person must mend.

--objective names a function `train(settings, report)` that calls
`report(epoch=…, …)` after every epoch and returns a dict of metrics.
docs/objectives.md has an example of ten lines.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from pathlib import Path

from foldertune.commands.machine import add_machine, introduce, new_local_workers, place
from foldertune.commands.options import add_checkpoint_every, add_logs, add_objective_command, seconds
from foldertune.errors import UserError
from foldertune.launch.about import Usage, about
from foldertune.launch.local import supervise
from foldertune.launch.machine import limit_threads, split_cores, stay_on
from foldertune.launch.slurm_job import leave, seconds_left
from foldertune.protocol import Folder, Heartbeat
from foldertune.running.command import CommandTrainer, split
from foldertune.running.presence import Presence
from foldertune.running.signals import StopSignals
from foldertune.running.time_left import TimeLeft
from foldertune.running.trainer import ObjectiveTrainer, Trainer
from foldertune.running.worker import Worker, say
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE, command
from foldertune.trainer.report import Stopped

SECONDS_AFTER_GRACE = 5.0  # for a worker to put its trial down


def add_arguments(parser: argparse.ArgumentParser, device: str = "auto") -> None:
    """Add the options of this command. `device` is the default of --device."""
    group = parser.add_argument_group("what to work on")
    add_logs(group)
    group.add_argument(
        "--objective", metavar="MODULE:FUNCTION",
        help=f"the training code (default: {DEFAULT_OBJECTIVE}); no file in the folder can choose another",
    )  # fmt: skip
    add_objective_command(group)
    group.add_argument(
        "--idle-timeout", type=seconds(0), metavar="SECONDS",
        help="end after this long without work (default: wait until the study is complete)",
    )  # fmt: skip
    group.add_argument(
        "--start-timeout", type=seconds(0), default=600.0, metavar="SECONDS",
        help="end with exit code 2 if no study begins in the folder within this time (default: %(default)g)",
    )  # fmt: skip
    group = parser.add_argument_group("machine")
    add_machine(group, device)
    add_checkpoint_every(group)
    group.add_argument(
        "--grace", type=seconds(0), default=20.0, metavar="SECONDS",
        help="time that a training has to save its state when told to stop (default: 20; Slurm kills after 30)",
    )  # fmt: skip
    group.add_argument(
        "--time-left", type=seconds(0), metavar="SECONDS",
        help="until this machine is taken away: --grace and 10 seconds before, the worker saves its trial and ends; "
        "while trials save no state, it takes none with less time left than the longest it has seen (default: what "
        "Slurm says in a job of its own, otherwise no limit)",
    )  # fmt: skip
    group.add_argument("--check", action="store_true", help="only find out whether this machine can train, and end")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # when this process ends, so does the worker


def main(arguments: argparse.Namespace) -> int:
    """Work until there is nothing left to do. Returns the exit code: 0, or 128 + the signal that stopped it.

    In a job of Slurm's it is 0 after a signal, too.

    Raises UserError if this machine can't train, or if no study comes.
    """
    check_logs(arguments.logs)
    if not arguments.check and (arguments.device == "all" or arguments.trials_per_gpu != 1):
        devices = place(arguments)
        introduce(devices, say)
        workers = new_local_workers(devices, arguments.argv, arguments, None, say, "local", time_left(arguments))
        seconds, are_patient = arguments.grace + SECONDS_AFTER_GRACE, arguments.idle_timeout is None
        return supervise(workers, Folder(arguments.logs), seconds, say, are_patient=are_patient)
    arguments.device = place(arguments, workers=1)[0]
    limit_threads(arguments.threads)
    if arguments.cores:
        for cores in split_cores(1, arguments.cores):
            stay_on(cores)
    signals = StopSignals()
    signals.listen()
    worker = Worker(
        folder := Folder(arguments.logs),
        COMMAND_OBJECTIVE if arguments.command else arguments.objective or DEFAULT_OBJECTIVE,
        new_trainer(signals, arguments),
        signals,
        arguments.checkpoint_every,
        arguments.idle_timeout,
        arguments.grace,
        arguments.start_timeout,
        seconds_left() if arguments.time_left is None else arguments.time_left,
    )
    if arguments.check:
        return check(worker, arguments.command)
    with Presence(worker, about(arguments.device, arguments.logs), Usage(arguments.device)):
        code = worker.run(Heartbeat(arguments.parent))
    return leave(code, folder, signals.number, time_is_up=worker.is_out_of_time)


def check(worker: Worker, trained_by: str | None) -> int:
    """Find out whether this machine can train the study in the folder, if there is one. Raises UserError."""
    program = split(trained_by)[0] if trained_by else ""
    if program and "{" not in program and shutil.which(program) is None:
        raise UserError(f"--command: there is no program '{program}' here")
    try:
        with contextlib.suppress(OSError):  # it is in trouble, or not there yet
            worker.know_study()
        worker.prepare()
    except Stopped:
        return worker.signals.exit_code
    finally:
        worker.trainer.end()
    return 0


def time_left(arguments: argparse.Namespace) -> TimeLeft | None:
    """The time that a person has said several workers have; None: Slurm may tell each. Raises UserError."""
    return None if arguments.time_left is None else TimeLeft(arguments.time_left, arguments.grace)


def hide_check(parser: argparse.ArgumentParser) -> None:
    """Leave --check out of the help of a command that starts workers: each would only check, and end."""
    for action in parser._actions:
        if action.dest == "check":
            action.help = argparse.SUPPRESS


def refuse_check(arguments: argparse.Namespace) -> None:
    """Raise UserError if --check was given to a command that starts workers."""
    if arguments.check:
        one = command("worker", "--check", "--logs", arguments.logs)
        raise UserError(f"--check: is for one worker; type it there: {one}")


def check_logs(logs: Path) -> None:
    """Raise UserError if the folder is a file."""
    with contextlib.suppress(OSError):  # the folder is in trouble: the worker says so, and waits
        if logs.exists() and not logs.is_dir():
            raise UserError(f"--logs {logs}: is not a directory")


def new_trainer(signals: StopSignals, arguments: argparse.Namespace) -> Trainer:
    """The trainer that the command line asks for. Raises UserError."""
    if arguments.command is None:
        if arguments.pattern:
            raise UserError("--pattern: is for the lines that a command prints; add --command")
        name = arguments.objective or DEFAULT_OBJECTIVE
        return ObjectiveTrainer(signals, name, arguments.device, arguments.memory)
    if arguments.objective:
        raise UserError("--command and --objective: give one of them")
    return CommandTrainer(signals, arguments.command, arguments.device, arguments.pattern, arguments.memory)
