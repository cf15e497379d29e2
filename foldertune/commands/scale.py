"""Have more or fewer of the workers that `launch slurm` has started.

    {program} --logs /shared/me/lr 12    twelve workers, whatever there are now
    {program} --logs /shared/me/lr       say how many there are

More: Slurm gets the script of those that were submitted last once more. Fewer:
those that still wait for their turn are cancelled first, then the latest; they
save their trials and give them back. Masters and other people's workers are not
counted, nor are workers that you have started in another way.
"""

from __future__ import annotations

import argparse

from foldertune.commands.options import add_logs, whole_number
from foldertune.errors import UserError
from foldertune.launch import Fleet
from foldertune.launch.slurm import check_slurm
from foldertune.launch.slurm_fleet import SlurmFleet
from foldertune.shipped import command
from foldertune.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "number", nargs="?", type=whole_number(0), metavar="N",
        help="how many workers there shall be (default: as many as there are)",
    )  # fmt: skip
    add_logs(parser)


def main(arguments: argparse.Namespace) -> int:
    """Add the workers that are missing, or remove those that are too many."""
    check_slurm()
    fleet: Fleet = SlurmFleet(arguments.logs)
    if not len(fleet):
        raise UserError(
            f"--logs {arguments.logs}: {fleet.name} has none of your workers for this folder; start some with: "
            f"{command('launch slurm', '--logs', arguments.logs, '--workers', arguments.number or 1)}"
        )
    wanted = len(fleet) if arguments.number is None else arguments.number
    lacking = wanted - len(fleet)
    if lacking:
        print(fleet.add(lacking) if lacking > 0 else fleet.remove(-lacking))
    print(f"{fleet.name} has {counted(wanted, 'worker')} for {arguments.logs}")
    return 0
