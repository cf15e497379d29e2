"""Options that several commands share, and the types of their numbers."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foldertune.stopping import NONE, RULES


class Once(argparse.Action):
    """Keeps the option's value. Given twice, it is an error: the second would silently replace the first."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Set the value."""
        if getattr(namespace, self.dest) is not self.default:
            raise argparse.ArgumentError(self, "stands there twice, but this command takes one folder")
        setattr(namespace, self.dest, values)


class Several(argparse.Action):
    """Collects the option's values, also when it is given several times."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Add these values."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*([] if before is self.default else before), *values])


def add_logs(parser: argparse._ActionsContainer) -> None:
    """Add the option --logs, the shared folder."""
    help = "the shared folder (default: logs)"
    parser.add_argument("--logs", type=path, action=Once, default=Path("logs"), metavar="DIR", help=help)


def add_several_logs(parser: argparse._ActionsContainer) -> None:
    """Add the option --logs, the folders of one or several studies."""
    parser.add_argument(
        "--logs", type=path, nargs="+", action=Several, default=[Path("logs")], metavar="DIR",
        help="shared folders, kept ones, or directories that hold such folders (default: logs)",
    )  # fmt: skip


def add_budget(parser: argparse._ActionsContainer) -> None:
    """Add the options for each limit of a study's budget."""
    parser.add_argument(
        "--trials", type=whole_number(1), metavar="N",
        help="exactly N results; more than before extend a finished study, and so does each option below",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=_number(0), metavar="N",
        help="begin no trial that would exceed N epochs in all (of the setting that [fidelity] names)",
    )  # fmt: skip
    parser.add_argument(
        "--hours", type=_number(0), metavar="N",
        help="begin no trial after N hours at work; hours in which nobody trains do not count",
    )  # fmt: skip
    parser.add_argument(
        "--target", type=_number(), metavar="VALUE",
        help="begin no trial once the metric is VALUE or better",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=whole_number(1), metavar="N",
        help="begin no trial after N results in a row that are no better than the best before them",
    )  # fmt: skip


def add_stopping(parser: argparse._ActionsContainer) -> None:
    """Add the option --stopping, the rule by which running trials are stopped early."""
    parser.add_argument(
        "--stopping", metavar="RULE",
        help=f"stop running trials early, by the epochs they report: {', '.join(RULES)} or {NONE} "
        "(default: as [stopping] in its file says; otherwise none)",
    )  # fmt: skip


def add_checkpoint_every(parser: argparse._ActionsContainer) -> None:
    """Add the option --checkpoint-every, which limits how much training a kill -9 can cost."""
    parser.add_argument(
        "--checkpoint-every", type=seconds(0), default=300.0, metavar="SECONDS",
        help="save the state of a training every SECONDS; 0: only when stopped (default: %(default)g)",
    )  # fmt: skip


def add_objective_command(parser: argparse._ActionsContainer) -> None:
    """Add the options --command and --pattern, for training code that is not a Python function."""
    parser.add_argument(
        "--command", metavar="'WORDS'",
        help="train with any command instead, such as 'python train.py --lr {lr} --out {out}': words in braces become "
        "settings, {out} is a directory that later attempts find again; no shell reads it",
    )  # fmt: skip
    parser.add_argument(
        "--pattern", metavar="REGEX",
        help="how the command prints values, unless as JSON: its named groups are the names, such as "
        r"'epoch (?P<epoch>\d+) loss (?P<loss>\S+)'; name=value finds all pairs of that form",
    )  # fmt: skip


def path(text: str) -> Path:
    """The type of an option that takes a path. A shell leaves the `~` in `--logs=~/lr` as it is."""
    return Path(os.path.expanduser(text))


def whole_number(least: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes a whole number, at least `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return read


def number_after_study(text: str) -> int:
    """The type of an option that takes a trial's number or nothing: what follows may be meant as the study."""
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a trial's number, not {text!r}; name the study before --try")


def _number(above: float = -math.inf) -> Callable[[str], float]:
    """The type of an option that takes a number above this one."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value < math.inf:
            limit = "" if above == -math.inf else f" above {above:g}"
            raise argparse.ArgumentTypeError(f"must be a number{limit}, not {text!r}")
        return value

    return read


def seconds(least: float | None = None) -> Callable[[str], float]:
    """The type of an option that takes seconds: at least `least`, or more than 0 if that is None."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value > 0 if least is None else value >= least) or value == math.inf:
            limit = "above 0" if least is None else f"{least:g} or more"
            raise argparse.ArgumentTypeError(f"must be a number of seconds, {limit}, not {text!r}")
        return value

    return read
