"""Trials that share a GPU by NVIDIA's MPS share its faults, too.

If one of the processes does what a GPU must not, or is killed while the GPU works for it, all of them fail: "an illegal
memory access was encountered". (NVIDIA's Multi-Process Service, chapter "Client early termination"; seen on an H200:
one `kill -9`, and the trials of fifteen other workers failed.) Nobody can tell whose fault it was. So each trial that
fails like this is given back, which costs no attempt, and next time it trains apart from MPS: there a fault is its own.
"""

from __future__ import annotations

import os
import re

from foldertune.protocol import Claim, Record, Trial
from foldertune.running.devices import mps_is_running
from foldertune.running.trainer import Trainer

FAULT = "the GPU that it shared had a fault"
_OF_CUDA = re.compile(r"CUDA error|CUDA_ERROR|cudaError")
LONGEST_ERROR = 200  # characters


def is_shared(device: str) -> bool:
    """Do several trials train on this device at once, in MPS?"""
    return device.startswith("cuda") and int(os.environ.get("TRIALS_PER_GPU", "1")) > 1 and mps_is_running()


def is_shared_fault(last_word: Record, trainer: Trainer) -> bool:
    """Did a training end because the GPU failed that it shared? To lack memory is no fault."""
    if "error" not in last_word or trainer.apart:
        return False
    told = f"{last_word['error']} {last_word.get('output', '')}"
    return bool(_OF_CUDA.search(told)) and "out of memory" not in told and is_shared(trainer.device)


def give_back(claim: Claim, last_word: Record) -> str:
    """Give the trial back. Returns what has happened, in words. Raises LeaseLost, OSError."""
    claim.give_back(f"{FAULT}: {last_word['error'][:LONGEST_ERROR]}")
    return f"given back: {FAULT}; next time it trains apart from NVIDIA's MPS"


def must_be_apart(trial: Trial, device: str) -> bool:
    """Was this trial given back for such a fault, or has it failed by one of its own?"""
    if not trial.claim and not trial.lost:
        return False
    reasons = [*trial.lost, *(str(claim.get("given_back")) for claim in (*trial.earlier, trial.claim))]
    return any(FAULT in reason or _OF_CUDA.search(reason) for reason in reasons) and is_shared(device)
