"""Trials that share a GPU by NVIDIA's MPS share its faults, too.

If one of the processes does what a GPU must not, or is killed while the GPU works for it, all of them fail: "an illegal
memory access was encountered". (NVIDIA's Multi-Process Service, chapter "Client early termination"; seen on an H200:
one `kill -9`, and the trials of fifteen other workers failed.) Nobody can tell whose fault it was. So each trial that
fails like this is given back, which costs no attempt, and next time it trains apart from MPS: there a fault is its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from foldertune.protocol import Claim, Record, Trial
from foldertune.running.devices import is_exclusive, mps_is_running
from foldertune.running.trainer import Trainer

FAULT = "the GPU that it shared had a fault"
MOST_IN_A_ROW = 2  # faults of one worker without a result between: then it is no chance, and they count
LONGEST_ERROR = 200  # characters
_OF_A_GPU = re.compile(r"CUDA error|CUDA_ERROR|cudaError|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS")


class SharedGPU:
    """What a worker knows of the GPU on which its trainer may not be alone."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._faults = trainer, 0  # in a row

    def place(self, trial: Trial, before: Callable[[], None]) -> None:
        """Have the trainer train apart from MPS if this trial must. Otherwise with MPS, where it runs.

        Args:
            before: is called if that takes long, because the training code is loaded again.

        Raises UserError and Stopped: see `Trainer.prepare`.
        """
        apart = self._must_be_apart(trial)
        if apart != self._trainer.apart:
            before()
            self._trainer.keep_apart(apart)

    def has_failed(self, last_word: Record) -> bool:
        """Did a training end because of a fault that need not be its own?"""
        if "error" not in last_word:
            self._faults = 0
            return False
        told = f"{last_word['error']} {last_word.get('output', '')}"
        if not is_fault(told) or self._trainer.apart or not self._is_shared():
            return False
        self._faults += 1
        return self._faults <= MOST_IN_A_ROW

    def _must_be_apart(self, trial: Trial) -> bool:
        """Was this trial given back for such a fault, or has it failed by one of its own?"""
        if not trial.claim and not trial.lost:
            return False
        reasons = [*trial.lost, *(str(claim.get("given_back")) for claim in (*trial.earlier, trial.claim))]
        return any(FAULT in reason or is_fault(reason) for reason in reasons) and self._is_shared()

    def _is_shared(self) -> bool:
        """Can trials train there in MPS, and apart from it? A GPU may be MPS's alone."""
        return self._trainer.device.startswith("cuda") and mps_is_running() and not is_exclusive()


def is_fault(error: str) -> bool:
    """Is that a fault of a GPU? To lack memory is none."""
    return bool(_OF_A_GPU.search(error)) and "out of memory" not in error


def give_back(claim: Claim, last_word: Record) -> str:
    """Give the trial back. Returns what has happened, in words. Raises LeaseLost, OSError."""
    claim.give_back(f"{FAULT}: {last_word['error'][:LONGEST_ERROR]}")
    return f"given back: {FAULT}; next time it trains apart from NVIDIA's MPS"
