"""Finds the GPUs of this machine without PyTorch: by the tools of their drivers, and by what the environment hides."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

_GPU = re.compile(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)")
_PART = re.compile(r"\s+MIG .*?(\d+)gb\S*\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")  # its profile: 1g.10gb has 10 GiB
AMD_HIDES = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def find_gpus() -> dict[str, int]:
    """The GPUs by the names that PyTorch gives them, each with its memory in MiB (0: not known)."""
    if memories := list_gpus() or _list_amd():
        return {f"cuda:{number}": memory for number, memory in enumerate(memories)}
    return {"mps": 0} if (platform.system(), platform.machine()) == ("Darwin", "arm64") else {}


def list_gpus() -> list[int]:
    """The memory in MiB of each NVIDIA GPU that processes started here can see; empty without GPU or driver."""
    return [memory for memory, _ in _list_seen()]


def parts_are_seen() -> bool:
    """Is one of them divided into parts (MIG), of which each process uses only one?"""
    return any(is_part for _, is_part in _list_seen())


def _list_seen() -> list[tuple[int, bool]]:
    """Of each NVIDIA GPU that processes can see, the memory in MiB, and whether that is a part of a GPU."""
    gpus = _list_nvidia()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not gpus:
        return [(gpu.memory_seen, bool(gpu.parts)) for gpu in gpus]
    by_identifier = {key: value for gpu in gpus for key, value in gpu.by_identifier.items()}
    seen = []
    for name in map(str.strip, visible.split(",")):  # a number, or an identifier of a GPU or of a part of one
        if name.isdecimal() and int(name) < len(gpus):
            seen.append((gpus[int(name)].memory_seen, bool(gpus[int(name)].parts)))
        elif name.startswith(("GPU-", "MIG-")):
            known = [memory for identifier, memory in by_identifier.items() if identifier.startswith(name)]
            is_part = name.startswith("MIG-") or any(gpu.parts and gpu.identifier.startswith(name) for gpu in gpus)
            seen.append((min(known or [gpu.memory_seen for gpu in gpus]), is_part))
        else:
            break  # CUDA, too, ignores an invalid entry and all after it
    return seen


@dataclass
class _Gpu:
    """An NVIDIA GPU, which may be divided into parts (MIG)."""

    memory: int
    identifier: str = ""
    parts: dict[str, int] = field(default_factory=dict)  # identifier -> MiB

    @property
    def memory_seen(self) -> int:
        """The memory that a process finds there. Of a divided GPU it sees the first part."""
        return next(iter(self.parts.values()), self.memory)

    @property
    def by_identifier(self) -> Mapping[str, int]:
        return {self.identifier: self.memory_seen, **self.parts} if self.identifier else {}


def _list_nvidia() -> list[_Gpu]:
    memories = ask("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
    gpus = [_Gpu(int(line) if line.strip().isdecimal() else 0) for line in memories]
    if not gpus:
        return []
    here = iter(gpus)
    gpu: _Gpu | None = None
    for line in ask("nvidia-smi", "-L"):
        if match := _GPU.match(line):
            gpu = next(here, None)
            if gpu:
                gpu.identifier = match[1]
        elif gpu and (match := _PART.match(line)):
            gpu.parts[match[2]] = 1024 * int(match[1])
    return gpus


def _list_amd() -> list[int]:
    """The memory in MiB of each AMD GPU. PyTorch calls these `cuda`, too."""
    lines = ask("rocm-smi", "--showmeminfo", "vram", "--csv")  # card0,TOTAL,USED in bytes
    memories = [int(total) // 2**20 for line in lines if (total := line.partition(",")[2].split(",")[0]).isdecimal()]
    visible = next((os.environ[name] for name in AMD_HIDES if name in os.environ), None)
    if visible is None:
        return memories
    names = map(str.strip, visible.split(","))
    return [memories[int(name)] for name in names if name.isdecimal() and int(name) < len(memories)]


def ask(*command: str) -> list[str]:
    """The lines that a driver's tool prints; none if there is no such tool, or no GPU for it."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
