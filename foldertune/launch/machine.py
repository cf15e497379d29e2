"""Counts the cores and GPUs of this machine, and chooses the device of each worker."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

MEMORY_PER_TRIAL = 4096  # MiB of a GPU: half a gigabyte of context, the full data set, activations of large batches
MOST_PER_GPU = 8


def count_cores(groups: Path = Path("/sys/fs/cgroup"), own_groups: Path = Path("/proc/self/cgroup")) -> int:
    """The number of cores that this process may use: those of its affinity, or fewer if a control group has a quota.

    Slurm and `taskset` set the affinity, Docker and Kubernetes the quota.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(groups, own_groups)]
    return max(1, min([cores, *quotas]))


def _quotas(groups: Path, own_groups: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups, in version 2 (one tree) or version 1 (`cpu`).

    A group's parents limit it as well. A container sees its own group as the root, under whatever name.
    """
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return  # not Linux
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / "cpu" if controllers else groups
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # without a quota the file is missing, or says "max" or -1
                if controllers:
                    quota, period = (int((group / f"cpu.cfs_{part}_us").read_text()) for part in ("quota", "period"))
                else:
                    quota, period = map(int, (group / "cpu.max").read_text().split())
                if quota > 0 < period:
                    yield quota / period
            if group == top:
                break


def list_gpus() -> list[int]:
    """The memory in MiB of each NVIDIA GPU that processes started here can see; empty without GPU or driver."""
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
    for name in visible.split(","):  # a number, or an identifier of a GPU or of a part of one
        known = name.strip().isdigit() and int(name) < len(memories)
        if not known and not name.strip().startswith(("GPU-", "MIG-")):
            break  # CUDA, too, ignores an invalid entry and all after it
        seen.append(memories[int(name)] if known else min(memories))
    return seen


def choose_devices(wish: str, trials_per_gpu: int | None = 1, workers: int | None = None) -> list[str]:
    """The device of each worker to be started on this machine.

    Args:
        wish: a device; "auto", the first GPU; or "all", every GPU. Without a GPU, "auto" and "all" mean the CPU.
        trials_per_gpu: workers per GPU; None: as many as memory and cores allow, but at most 8.
        workers: the number of all workers; None: `trials_per_gpu` on each GPU, or one per core if there is none.
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
    """The numbers of workers by device: `3 on cuda:0, 3 on cuda:1`."""
    return ", ".join(f"{count} on {device}" for device, count in Counter(devices).items())


def mps_is_running() -> bool:
    """Is NVIDIA's Multi-Process Service running? Without it, processes on one GPU take turns of some milliseconds."""
    return os.path.exists(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps") + "/control")
