"""The name of a worker's device, and what its trainer is shown of it.

A device has the name that PyTorch gives it: `cpu`, `cuda:1`, `mps`. Several GPUs that train one trial together are
`cuda:0,1`: the trainer sees these alone, and calls them `cuda`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

MPS_PIPES = "CUDA_MPS_PIPE_DIRECTORY"  # where NVIDIA's MPS is; a process that does not find it there does without
NOWHERE = "/nonexistent"
VISIBLE, AMD_VISIBLE = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"  # AMD's driver reads both, its own first


class Shown(NamedTuple):
    """What a trainer is shown."""

    device: str  # where it trains, by the name that it has there
    gpus: int  # how many it may use
    environment: dict[str, str] | None  # None: ours


def show(device: str, *, alone: bool = False, apart: bool = False) -> Shown:
    """What the trainer of a worker with this device is shown.

    Args:
        alone: hide other GPUs also from a trainer with one. Several GPUs, and a part of one (MIG), are shown alone in
            any case: of all parts that it might see, a process uses the first.
        apart: hide NVIDIA's MPS, too.
    """
    kind, _, numbers = device.partition(":")
    chosen = [name_of(number) for number in numbers.split(",")] if kind == "cuda" and numbers else []
    shown, changed = (device, int(kind != "cpu")), {MPS_PIPES: NOWHERE} if apart else {}
    if len(chosen) > 1 or (chosen and (alone or chosen[0].startswith("MIG-"))):
        names = [VISIBLE, *([AMD_VISIBLE] if AMD_VISIBLE in os.environ else [])]
        shown, changed = ("cuda", len(chosen)), {**changed, **dict.fromkeys(names, ",".join(chosen))}
    return Shown(*shown, {**os.environ, **changed} if changed else None)


def is_exclusive() -> bool:
    """May only one process use a GPU of this machine, such as MPS's server? Asks the driver, which takes a moment."""
    command = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    try:
        return "Exclusive" in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False


def mps_is_running() -> bool:
    """Is NVIDIA's Multi-Process Service running? Without it, processes on one GPU take turns of some milliseconds."""
    return Path(os.environ.get(MPS_PIPES, "/tmp/nvidia-mps"), "control").exists()


def name_of(number: str) -> str:
    """The name, in CUDA_VISIBLE_DEVICES, of the GPU that processes started here know by this number."""
    listed = os.environ.get(VISIBLE) or os.environ.get(AMD_VISIBLE, "")
    visible = [name.strip() for name in listed.split(",")]
    return visible[int(number)] if visible[0] and number.isdecimal() and int(number) < len(visible) else number
