"""What this machine offers, and which worker trains where."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Sequence

MEMORY_PER_TRIAL = 4096  # MiB of a GPU: a context of half a gigabyte, the full data set, activations of large batches
MOST_PER_GPU = 8


def count_cores() -> int:
    """The cores this process may use: affinity and a container's quota counted, as Slurm and Docker set them."""
    from loky import cpu_count  # 70 ms that not every start should pay

    return int(cpu_count())


def list_gpus() -> list[int]:
    """The memory in MiB of each NVIDIA GPU that processes started here see; empty if there is none, or no driver."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    memories = [int(line) if line.strip().isdigit() else 0 for line in answer.splitlines()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not memories:
        return memories
    seen = []
    for name in visible.split(","):  # of a number or, for parts of a GPU too, an identifier
        known = name.strip().isdigit() and int(name) < len(memories)
        if not known and not name.strip().startswith(("GPU-", "MIG-")):
            break  # as CUDA does: what comes after a wrong one is not seen either
        seen.append(memories[int(name)] if known else min(memories))
    return seen


def choose_devices(wish: str, trials_per_gpu: int | None = 1, workers: int | None = None) -> list[str]:
    """The device of each worker to be started on this machine.

    Args:
        wish: a device; "auto", the first GPU if there is one; "all", every GPU. Without a GPU, both mean the CPU.
        trials_per_gpu: None: as many as memory and cores allow, not more than 8.
        workers: how many in all; None: `trials_per_gpu` on each GPU, or one a core.
    """
    devices = [wish]
    if wish.startswith("cuda") or wish in ("auto", "all"):
        memories = list_gpus()
        if wish in ("auto", "all"):
            devices = (
                [f"cuda:{number}" for number in range(len(memories) if wish == "all" else 1)] if memories else ["cpu"]
            )
        if trials_per_gpu is None:
            room = min(memories, default=0) // MEMORY_PER_TRIAL
            trials_per_gpu = max(1, min(count_cores() // len(devices), room, MOST_PER_GPU))
    if workers is None:
        workers = count_cores() if devices == ["cpu"] else len(devices) * (trials_per_gpu or 1)
    return [devices[number % len(devices)] for number in range(workers)]


def describe_devices(devices: Sequence[str]) -> str:
    """How many workers are on what."""
    return ", ".join(f"{count} on {device}" for device, count in Counter(devices).items())


def mps_is_running() -> bool:
    """Is NVIDIA's Multi-Process Service there? Without it the processes on a GPU take turns, each some milliseconds."""
    return os.path.exists(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps") + "/control")
