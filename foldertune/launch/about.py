"""What a worker tells of itself, for people: who started it, where it writes, its GPU, and the memory in use."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
from collections.abc import Mapping
from pathlib import Path

from foldertune.launch.gpus import ask
from foldertune.launch.slurm_job import LAUNCHER, own_job
from foldertune.protocol import Record, printable
from foldertune.text import clipped
from foldertune.trainer.guardian import family

LONGEST_TEXT = 200
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def about(device: str, logs: Path) -> Record:
    """What does not change while a worker lives."""
    told = {
        "launcher": launcher(os.environ),
        "device": device,
        "python": platform.python_version(),
        "log": own_log(logs),
    }
    return {key: value for key, value in told.items() if value}


def launcher(environment: Mapping[str, str]) -> str:
    """Who started this worker, and its number there; empty if a person did by hand."""
    if text := environment.get(LAUNCHER, ""):
        return clipped(printable(text), LONGEST_TEXT)
    job = own_job(environment)
    return printable(f"slurm {job}") if job else ""


def own_log(logs: Path) -> str:
    """The file to which this process prints: relative to the folder if it is there; empty if it is no file."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(1).st_mode):
            path = os.readlink("/proc/self/fd/1")
            return clipped(printable(path.removeprefix(f"{logs.resolve()}/")), 4 * LONGEST_TEXT)
    return ""


class Usage:
    """The memory that a worker and its trainer use, and the name of their GPU.

    Args:
        device: by the name that PyTorch gives it.
    """

    def __init__(self, device: str) -> None:
        self._gpu = gpu_of(device, os.environ)
        self._name: str | None = None

    def __call__(self) -> Record:
        """What there is to tell now. It may take a second."""
        ours = family(os.getpid())
        told: Record = {"memory": sum(map(resident, ours))}
        if self._gpu and self._name != "":  # without a driver there is nothing to ask it
            if self._name is None:
                self._name = clipped(
                    "".join(ask("nvidia-smi", "-i", self._gpu, "--query-gpu=name", CSV)[:1]), LONGEST_TEXT
                )
            told |= {"gpu": self._name, "gpu_memory": gpu_memory(ours)} if self._name else {}
        return {key: value for key, value in told.items() if value is not None}


CSV = "--format=csv,noheader,nounits"


def gpu_of(device: str, environment: Mapping[str, str]) -> str:
    """The number or the identifier by which the driver's tool knows this device; empty if it is no NVIDIA GPU."""
    kind, _, number = device.partition(",")[0].partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        return ""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return number or "0"
    names = [name.strip() for name in visible.split(",")]
    return names[int(number or 0)] if int(number or 0) < len(names) else ""


def gpu_memory(ours: list[int]) -> int | None:
    """The bytes of GPU memory that these processes use; None if the driver does not tell, as in many containers."""
    lines = [line.split(",") for line in ask("nvidia-smi", "--query-compute-apps=pid,used_memory", CSV)]
    pairs = [(int(pid), int(used)) for pid, used in (map(str.strip, line) for line in lines if len(line) == 2)
             if pid.isdecimal() and used.isdecimal()]  # fmt: skip
    known = [2**20 * used for pid, used in pairs if pid in ours]
    return sum(known) if known else None


def resident(pid: int) -> int:
    """The bytes of memory that a process has in use; 0 if /proc does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm") as file:
        return PAGE * int(file.read().split()[1])
    return 0
