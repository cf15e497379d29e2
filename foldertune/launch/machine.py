"""Counts the cores of this machine, and chooses the device of each worker."""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from foldertune.errors import UserError
from foldertune.launch.gpus import find_gpus, parts_are_seen
from foldertune.running.devices import name_of
from foldertune.text import counted

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


def choose_devices(
    wish: str,
    trials_per_gpu: int | None = 1,
    workers: int | None = None,
    gpus_per_trial: int = 1,
    cores: int = 1,
) -> list[str]:
    """The device of each worker to be started on this machine.

    Args:
        wish: a device by the name that PyTorch gives it; "auto", the first GPU; or "all", every GPU. Without a GPU,
            "auto" and "all" mean the CPU.
        trials_per_gpu: workers per GPU; None: as many as memory and cores allow, but at most 8.
        workers: the number of all workers; None: `trials_per_gpu` on each GPU, or one per core if there is none.
        gpus_per_trial: with more than one, a device is a group of GPUs: `cuda:0,1`.
        cores: the cores of each worker.

    Raises UserError.
    """
    gpus = find_gpus() if wish in ("auto", "all") or trials_per_gpu is None else {}
    devices = [wish]
    if gpus_per_trial > 1:
        devices = _form_groups(wish, list(gpus), gpus_per_trial)
    elif wish in ("auto", "all"):
        devices = list(gpus)[: 1 if wish == "auto" else None] or ["cpu"]
    if trials_per_gpu is None:
        room = min(gpus.values(), default=0) // MEMORY_PER_TRIAL
        trials_per_gpu = max(1, min(count_cores() // (cores * len(devices)), room, MOST_PER_GPU))
    if workers is None:
        workers = max(1, count_cores() // cores) if devices == ["cpu"] else len(devices) * trials_per_gpu
    return [devices[number % len(devices)] for number in range(workers)]


def _form_groups(wish: str, gpus: Sequence[str], size: int) -> list[str]:
    """Groups of so many GPUs: one, or for "all" as many as there are. Raises UserError."""
    option = f"--gpus-per-trial {size}"
    numbers = [name.partition(":")[2] for name in gpus if name.startswith("cuda:")]
    if wish not in ("auto", "all"):
        if wish.startswith("cuda:") and wish.count(",") == size - 1:
            return [wish]
        names = ",".join(map(str, range(size)))
        raise UserError(f"{option}: --device {wish} is another number; leave --device out, or name all: cuda:{names}")
    if len(numbers) < size:
        raise UserError(f"{option}: there {_are_gpus(len(numbers))} here; give a number that each trial can have")
    if parts_are_seen():
        raise UserError(
            f"{option}: a GPU here is divided into parts (MIG), of which a process uses one only; "
            "name whole GPUs in CUDA_VISIBLE_DEVICES"
        )
    if wish == "all" and len(numbers) % size:
        some = ",".join(name_of(number) for number in numbers[: len(numbers) // size * size])
        raise UserError(
            f"{option}: there are {len(numbers)} GPUs here, and {len(numbers) % size} would be idle; give a number "
            f"that divides {len(numbers)}, or say which to use: CUDA_VISIBLE_DEVICES={some}"
        )
    groups = [numbers[first : first + size] for first in range(0, len(numbers), size)]
    return [f"cuda:{','.join(group)}" for group in groups][: 1 if wish == "auto" else None]


def _are_gpus(number: int) -> str:
    return {0: "is no GPU", 1: "is one GPU"}.get(number, f"are {number} GPUs")


def split_cores(workers: int, cores: int) -> list[set[int]]:
    """So many cores for each of the workers, different ones; empty where a process can't be kept on some (macOS).

    Raises UserError if there are not enough.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    mine = sorted(os.sched_getaffinity(0))
    if workers * cores > min(len(mine), count_cores()):
        have = f"{min(len(mine), count_cores())} here"
        wanted = f"{counted(workers, 'worker')} would have {workers * cores} cores"
        raise UserError(f"--cores {cores}: {wanted}, there are {have}; start fewer")
    return [set(mine[first : first + cores]) for first in range(0, workers * cores, cores)]


def stay_on(cores: set[int], process: int = 0) -> None:
    """Keep a process, and all that it starts, on these cores."""
    with contextlib.suppress(OSError):  # it has ended, or a container forbids it
        os.sched_setaffinity(process, cores)


def limit_threads(number: int) -> None:
    """Let libraries use this many cores in this process and those that it starts: torch and numpy read it once.

    With more than one thread each, the workers of a machine compete for its cores.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(number)


def let_others_finish(process: int) -> None:
    """When a message wakes this process, or one that it starts, don't interrupt the one that has sent it.

    Who has started us with a policy of their own, such as `chrt --idle 0`, keeps it.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # it has ended, or a container forbids it
            if os.sched_getscheduler(process) == os.SCHED_OTHER:
                os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))


def describe_devices(devices: Sequence[str]) -> str:
    """The numbers of workers by device: `3 on cuda:0, 3 on cuda:1`."""
    return ", ".join(f"{count} on {device}" for device, count in Counter(devices).items())
