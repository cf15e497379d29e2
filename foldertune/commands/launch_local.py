"""Start workers on this machine, and look after them until the study is complete.

    {program} --logs /shared/me/lr     one per GPU, or one per core
    {program} --workers 4 --memory 8G  four, each trial within 8 GiB
    {program} --gpus-per-trial 2       each trial on two GPUs
    {program} --trials-per-gpu 3       three trials on each GPU
    {program} --detach                 in the background

A worker that dies is started again. Ctrl-C or SIGTERM stops all of them: they
save their trials and give them back within seconds.

With several GPUs a trial, the training sees these alone, as cuda:0, cuda:1, …,
and `report.gpus` is their number. Or: --command
'torchrun --nproc-per-node {gpus} train.py --lr {lr}'
"""

from __future__ import annotations

import argparse

from foldertune.commands import worker
from foldertune.commands.machine import introduce, new_local_workers, place
from foldertune.commands.options import whole_number
from foldertune.errors import UserError
from foldertune.launch.local import start_in_background, supervise
from foldertune.protocol import Folder, own_host
from foldertune.running.worker import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command, and those of each worker."""
    _add_own(parser)
    worker.add_arguments(parser, device="all")
    worker.hide_check(parser)


def _add_own(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how many, and where they print")
    group.add_argument(
        "--workers", type=whole_number(1), metavar="N",
        help="start N workers, spread over the GPUs (default: one per GPU, or one per core if there is none)",
    )  # fmt: skip
    group.add_argument(
        "--detach",
        action="store_true",
        help="do so in the background, and print to launch/HOST-local.log in the folder",
    )


def main(arguments: argparse.Namespace) -> int:
    """Start workers and look after them. Returns the exit code."""
    worker.refuse_check(arguments)
    worker.check_logs(arguments.logs)
    devices = place(arguments, arguments.workers)
    introduce(devices, say)
    words = worker_words(arguments.argv)
    workers = new_local_workers(devices, words, arguments, None, say, "local", worker.time_left(arguments))
    if arguments.detach:
        if not arguments.logs.is_dir():
            raise UserError(f"--logs {arguments.logs}: there is no such directory; start the master first, or make it")
        log = Folder(arguments.logs).launch / f"{own_host()}-local.log"
        process = start_in_background(["launch", "local", *words, "--workers", str(len(devices))], log)
        say(f"they start in the background and print to {log}; to end them: kill {process}")
        return 0
    seconds, are_patient = arguments.grace + worker.SECONDS_AFTER_GRACE, arguments.idle_timeout is None
    return supervise(workers, Folder(arguments.logs), seconds, say, are_patient=are_patient)


def worker_words(words: list[str]) -> list[str]:
    """The command line without the options of this command: what each worker gets."""
    own = argparse.ArgumentParser(add_help=False)
    _add_own(own)
    return own.parse_known_args(words)[1]
