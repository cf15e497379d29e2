"""The name of a worker's device, and what its trainer is shown of it.

A device has the name that PyTorch gives it: `cpu`, `cuda:1`, `mps`. Several GPUs that train one trial together are
`cuda:0,1`: the trainer sees these alone, and calls them `cuda`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

VISIBLE, AMD_VISIBLE = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"  # AMD's driver reads both, its own first


class Shown(NamedTuple):
    """What a trainer is shown."""

    device: str  # where it trains, by the name that it has there
    gpus: int  # how many it may use
    environment: dict[str, str] | None  # None: ours


def show(device: str, *, alone: bool = False) -> Shown:
    """What the trainer of a worker with this device is shown.

    Args:
        alone: hide other GPUs also from a trainer with one. Several GPUs, and a part of one (MIG), are shown alone in
            any case: of all parts that it might see, a process uses the first.
    """
    kind, _, numbers = device.partition(":")
    if kind != "cuda" or not numbers:
        return Shown(device, int(kind != "cpu"), None)
    chosen = [name_of(number) for number in numbers.split(",")]
    if len(chosen) == 1 and not alone and not chosen[0].startswith("MIG-"):
        return Shown(device, 1, None)
    names = [VISIBLE, *([AMD_VISIBLE] if AMD_VISIBLE in os.environ else [])]
    return Shown("cuda", len(chosen), {**os.environ, **dict.fromkeys(names, ",".join(chosen))})


def name_of(number: str) -> str:
    """The name, in CUDA_VISIBLE_DEVICES, of the GPU that processes started here know by this number."""
    listed = os.environ.get(VISIBLE) or os.environ.get(AMD_VISIBLE, "")
    visible = [name.strip() for name in listed.split(",")]
    return visible[int(number)] if visible[0] and number.isdecimal() and int(number) < len(visible) else number
