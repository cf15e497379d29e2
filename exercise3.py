#!/usr/bin/env python3
"""Train one network on MNIST from one set of hyperparameters.

    python exercise3.py
    python exercise3.py --learning-rate 0.2 --batch-size 100 --epochs 50
    python exercise3.py --data full --time-limit 60 --momentum 0.9

This is also the objective that `worker.py` loads: `train(settings, report)`
takes the settings of one trial and calls `report(epoch=…, …)` after every
epoch. The settings have the same names in a study.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from foldertune.cli import guard, new_parser
from foldertune.commands.options import whole_number
from foldertune.errors import missing_extra
from foldertune.launch.machine import choose_devices, count_cores
from foldertune.trainer.report import Listener, Report
from training.settings import SETTINGS, complete


def train(settings: dict[str, Any], report: Report) -> dict[str, Any]:
    """Train with these settings, report every epoch, and return the metrics: see `training.cnn.train`."""
    from training.cnn import train as train_network  # torch takes seconds to import; `--help` must not wait for it

    return train_network(settings, report)


def check(settings: dict[str, Any]) -> None:
    """Check settings; the master does so before a search. Raises ValueError if no training is possible with them."""
    complete(settings)


def prepare(device: str) -> None:
    """Prepare a worker for its first trial: fetch the data set, import torch, limit the memory on a shared GPU."""
    try:
        from training.cnn import choose_device, limit_memory
        from training.data import fetch
    except ModuleNotFoundError as error:
        raise missing_extra("exercise", error) from None
    limit_memory(choose_device(device))
    fetch()


def parse_arguments() -> argparse.Namespace:
    """Parse the command line. It has an option for every setting, and options for the machine."""
    parser = new_parser(__doc__, "python exercise3.py")
    group = parser.add_argument_group("settings")
    for name, setting in SETTINGS.items():
        default = "none" if setting.default is None else setting.default
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=setting.kind,
            default=setting.default,
            choices=setting.choices or None,
            metavar=None if setting.choices else {int: "N", float: "X"}[setting.kind],
            help=f"{setting.help} (default: {default})",
        )
    group = parser.add_argument_group("machine")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: the GPU if there is one)")
    group.add_argument("--threads", type=whole_number(1), metavar="N", help="CPU threads (default: one per core)")
    return parser.parse_args()


class Printer(Listener):
    """Prints every epoch."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Print one line of the learning curve."""
        if record["epoch"] == 1:
            print("epoch  seconds  training loss  validation loss  validation error")
        error = 1 - record["validation_accuracy"]
        bar = "▇" * round(40 * error)
        print(
            f"{record['epoch']:5d}  {record['seconds']:7.1f}  {record['training_loss']:13.4f}"
            f"  {record['validation_loss']:15.4f}  {100 * error:14.2f} %  {bar}",
            flush=True,
        )


def main() -> int:
    """Train once and print the result. Returns the exit code."""
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads or count_cores())  # before torch is imported
    try:
        settings = {name: getattr(arguments, name) for name in SETTINGS}
        result = train(settings, Report(Printer(), choose_devices(arguments.device, workers=1)[0]))
    except ModuleNotFoundError as error:
        raise missing_extra("exercise", error) from None
    except KeyboardInterrupt:
        print("stopped before the end, so there is no result", file=sys.stderr)
        return 130
    print(
        f"best validation error {100 * result['validation_error']:.2f} % in epoch {result['best_epoch']}, "
        f"test error {100 * (1 - result['test_accuracy']):.2f} %; {result['parameters']:,} parameters, "
        f"{result['epochs_trained']} epochs in {result['seconds']:.1f} s{', diverged' if result['diverged'] else ''}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
