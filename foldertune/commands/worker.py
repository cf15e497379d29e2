"""Take trials from a shared folder, train them, and hand in their results.

    {program}                          the folder logs/
    {program} --logs /shared/me/lr     on any machine that mounts it
    {program} --device all             one per GPU, or one per core
    {program} --objective mine:train   your own training code, mine.py
    {program} --command 'python train.py --lr {lr}'

Start workers before or after the master, as many as you like. A worker waits
while there is no work, and ends when the study is complete. Ctrl-C, SIGTERM
and SIGUSR1 (Slurm's warning) make it save its trial and give it back, so that
another worker resumes it.

--objective names a function `train(settings, report)` that calls
`report(epoch=…, …)` after every epoch and returns a dict of metrics. README.md
has an example of ten lines.
"""

from __future__ import annotations

import argparse
import contextlib

from foldertune.commands.options import add_checkpoint_every, add_logs, add_objective_command, seconds, whole_number
from foldertune.errors import UserError
from foldertune.launch.about import Usage, about
from foldertune.launch.local import LocalWorkers
from foldertune.launch.machine import choose_devices, describe_devices, limit_threads, mps_is_running
from foldertune.protocol import Folder, Heartbeat
from foldertune.running.command import CommandTrainer
from foldertune.running.presence import Presence
from foldertune.running.signals import StopSignals
from foldertune.running.trainer import ObjectiveTrainer, Trainer
from foldertune.running.waiting import Interrupted, outlast
from foldertune.running.worker import Worker, say
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE
from foldertune.trouble import Trouble

SECONDS_AFTER_GRACE = 5.0  # for a worker to put its trial down


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
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
    group.add_argument(
        "--device", default="auto",
        help="cpu, cuda, cuda:1 or mps, passed to the objective; auto: the first GPU, or the CPU without one; all: "
        "start one worker per GPU, or one per core if there is none (default: auto)",
    )  # fmt: skip
    group.add_argument(
        "--trials-per-gpu", type=_number_or_auto, default=1, metavar="N",
        help="start N workers per GPU, which share its memory; auto: as many as memory and cores allow (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--threads", type=whole_number(1), default=1, metavar="N", help="CPU threads of each worker (default: 1)"
    )
    add_checkpoint_every(group)
    group.add_argument(
        "--grace", type=seconds(0), default=20.0, metavar="SECONDS",
        help="time that a training has to save its state when told to stop (default: 20; Slurm kills after 30)",
    )  # fmt: skip
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # when this process ends, so does the worker


def main(arguments: argparse.Namespace) -> int:
    """Work until there is nothing left to do. Returns the exit code: 0, or 128 + the signal that stopped it.

    Raises UserError if this machine can't train, or if no study comes.
    """
    if arguments.trials_per_gpu != 1 and arguments.device not in ("auto", "all") and "cuda" not in arguments.device:
        raise UserError(f"--trials-per-gpu: '{arguments.device}' is not a GPU; use --device all, auto, cuda or cuda:1")
    with contextlib.suppress(OSError):  # the folder is in trouble: the worker says so, and waits
        if arguments.logs.exists() and not arguments.logs.is_dir():
            raise UserError(f"--logs {arguments.logs}: is not a directory")
    if arguments.device == "all" or arguments.trials_per_gpu != 1:
        return supervise(arguments)
    limit_threads(arguments.threads)
    arguments.device = choose_devices(arguments.device, workers=1)[0]
    signals = StopSignals()
    signals.listen()
    worker = Worker(
        Folder(arguments.logs),
        COMMAND_OBJECTIVE if arguments.command else arguments.objective or DEFAULT_OBJECTIVE,
        new_trainer(signals, arguments),
        signals,
        arguments.checkpoint_every,
        arguments.idle_timeout,
        arguments.grace,
        arguments.start_timeout,
    )
    with Presence(worker, about(arguments.device, arguments.logs), Usage(arguments.device)):
        return worker.run(Heartbeat(arguments.parent))


def new_trainer(signals: StopSignals, arguments: argparse.Namespace) -> Trainer:
    """The trainer that the command line asks for. Raises UserError."""
    if arguments.command is None:
        if arguments.pattern:
            raise UserError("--pattern: is for the lines that a command prints; add --command")
        return ObjectiveTrainer(signals, arguments.objective or DEFAULT_OBJECTIVE, arguments.device)
    if arguments.objective:
        raise UserError("--command and --objective: give one of them")
    return CommandTrainer(signals, arguments.command, arguments.device, arguments.pattern)


def supervise(arguments: argparse.Namespace) -> int:
    """Start several workers and look after them until all have ended or a signal stops them. Returns the exit code."""
    signals = StopSignals()
    signals.listen()
    devices = choose_devices(arguments.device, arguments.trials_per_gpu)
    say(f"workers here: {describe_devices(devices)}")
    if len(set(devices)) < len(devices) and devices[0].startswith("cuda") and not mps_is_running():
        say("trials on one GPU take turns; with NVIDIA's MPS they run at once: nvidia-cuda-mps-control -d")
    folder = Folder(arguments.logs)
    workers = LocalWorkers(devices, arguments.argv, None, say)
    trouble = Trouble(say)
    with contextlib.suppress(Interrupted):
        outlast(folder, workers.start, signals, say)
    while not workers.all_gone and not signals.wait(0.1):
        try:
            workers.look_after(lambda: len(folder.settled()))
            trouble.is_over()
        except OSError as error:  # it passes; the workers themselves wait, too
            trouble.is_there(error)
    workers.stop(arguments.grace + SECONDS_AFTER_GRACE)
    return 128 + signals.number if signals.number else workers.exit_code


def _number_or_auto(text: str) -> int | None:
    return None if text == "auto" else whole_number(1)(text)
