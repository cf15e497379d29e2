"""Options that say what a trial gets of a machine, and where workers are placed by them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from foldertune.commands.options import whole_number
from foldertune.errors import UserError
from foldertune.launch.local import LocalWorkers
from foldertune.launch.machine import choose_devices, describe_devices, split_cores
from foldertune.running.devices import mps_is_running
from foldertune.running.memory import can_watch_memory
from foldertune.running.time_left import TimeLeft

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:iB|B)?", re.IGNORECASE)
LEAST_MEMORY = 2**24  # bytes: less than Python takes


def add_machine(group: argparse._ArgumentGroup, device: str) -> None:
    """Add the options. `device` is the default of --device."""
    group.add_argument(
        "--device", default=device,
        help="cpu, cuda, cuda:1, mps, or cuda:0,1 for a trial on two GPUs, passed to the objective; auto: the first "
        "GPU, or the CPU without one; all: one worker per GPU, or one per core if there is none (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--trials-per-gpu", type=_number_or_auto, default=1, metavar="N",
        help="start N workers per GPU, which share its memory; auto: as many as memory and cores allow (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-trial", type=whole_number(1), default=1, metavar="N",
        help="each trial trains on N GPUs, and sees these alone (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--memory", type=size, metavar="SIZE",
        help="end a trial that takes more of the machine's memory, with all that it has started, such as 8G "
        "(default: no limit)",
    )  # fmt: skip
    group.add_argument(
        "--cores", type=whole_number(1), metavar="N",
        help="keep each worker on N cores of its own (default: the system moves it about)",
    )  # fmt: skip
    group.add_argument(
        "--threads", type=whole_number(1), metavar="N",
        help="CPU threads of each worker (default: as many as --cores says, or 1)",
    )  # fmt: skip


def check_machine(arguments: argparse.Namespace) -> None:
    """Raise UserError if these options contradict each other, or this machine can't keep to them."""
    if arguments.trials_per_gpu != 1 and arguments.device not in ("auto", "all") and "cuda" not in arguments.device:
        raise UserError(f"--trials-per-gpu: '{arguments.device}' is not a GPU; use --device all, auto, cuda or cuda:1")
    if arguments.memory and not can_watch_memory():
        raise UserError("--memory: this system does not tell how much memory a process has (Linux does, in /proc)")
    arguments.threads = arguments.threads or arguments.cores or 1


def place(arguments: argparse.Namespace, workers: int | None = None) -> list[str]:
    """The device of each worker; `workers`: their number, if it is not to follow from the machine. Raises UserError."""
    check_machine(arguments)
    return choose_devices(
        arguments.device, arguments.trials_per_gpu, workers, arguments.gpus_per_trial, arguments.cores or 1
    )


def in_words(arguments: argparse.Namespace) -> list[str]:
    """The options that each single worker gets: its device comes from elsewhere."""
    words = ["--threads", str(arguments.threads)]
    words += ["--memory", str(arguments.memory)] if arguments.memory else []
    return words + (["--cores", str(arguments.cores)] if arguments.cores else [])


def new_local_workers(
    devices: Sequence[str],
    options: Sequence[str],
    arguments: argparse.Namespace,
    logs: Path | None,
    say: Callable[[str], None],
    launcher: str,
    time_left: TimeLeft | None = None,
) -> LocalWorkers:
    """Workers on these devices, on cores of their own if --cores is given. See `LocalWorkers`. Raises UserError."""
    cores = split_cores(len(devices), arguments.cores) if arguments.cores else ()
    if len(set(devices)) < len(devices) and devices[0].startswith("cuda") and not mps_is_running():
        say("trials on one GPU take turns; with NVIDIA's MPS they run at once: nvidia-cuda-mps-control -d")
    return LocalWorkers(devices, options, logs, say, launcher, cores, time_left)


def introduce(devices: Sequence[str], say: Callable[[str], None]) -> None:
    """Say which workers there will be."""
    say(f"workers here: {describe_devices(devices)}")


def _number_or_auto(text: str) -> int | None:
    return None if text == "auto" else whole_number(1)(text)


def size(text: str) -> int:
    """The type of an option that takes a size in bytes, such as 8G or 500M (of 1024 each)."""
    match = _SIZE.fullmatch(text.strip())
    value = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if value < LEAST_MEMORY:
        raise argparse.ArgumentTypeError(f"must be a size such as 8G or 500M, at least 16M, not {text!r}")
    return value
