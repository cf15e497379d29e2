"""The workers that `foldertune launch slurm` has submitted for a folder: how many there are, more of them, or fewer.

Slurm itself knows all that. Nothing is read from the folder: its files may be another user's.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from foldertune.errors import UserError
from foldertune.launch.slurm import keep, line, sbatch, worker_output
from foldertune.launch.slurm_job import PATIENCE
from foldertune.text import counted

ENDING = ("COMPLETING", "COMPLETED", "CANCELLED", "FAILED")  # states of tasks that are no workers any more


class Task(NamedTuple):
    """A worker: one task of an array."""

    is_pending: bool
    job: int
    number: int

    def __str__(self) -> str:
        return f"{self.job}_{self.number}"


class SlurmFleet:
    """Our own workers for a folder, as Slurm knows them."""

    name = "Slurm"

    def __init__(self, logs: Path) -> None:
        self._logs = logs.resolve()
        self._tasks = self._find()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, number: int) -> str:
        """Submit as many more, with the script of those that were submitted last. Returns what happened, in words."""
        script = _script(max(task.job for task in self._tasks))
        script = re.sub(r"(?m)^(#SBATCH --array=1-)\d+", rf"\g<1>{number}", script)
        job = sbatch(script)
        keep(self._logs, job, script)
        return f"submitted {counted(number, 'more worker')} as job {job}"

    def remove(self, number: int) -> str:
        """Cancel as many: first those that wait for their turn, then the latest. Returns what happened, in words."""
        surplus = sorted(self._tasks)[-number:]
        for is_pending in (True, False):  # in this order, or they would take the places of those that end
            if some := [str(task) for task in surplus if task.is_pending == is_pending]:
                _ask("scancel", *some)
        return f"cancelled {counted(number, 'worker')}, which give their trials back: {', '.join(map(str, surplus))}"

    def _find(self) -> list[Task]:
        lines = _ask("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%F %K %T").splitlines()
        rows = [line.split() for line in lines]
        tasks = [
            Task(state == "PENDING", int(job), int(task))
            for job, task, state in rows
            if task.isdecimal() and state not in ENDING
        ]
        mark = line(worker_output(self._logs))
        ours = {job for job in {task.job for task in tasks} if mark in _script(job).splitlines()}
        return [task for task in tasks if task.job in ours]


def _script(job: int) -> str:
    return _ask("scontrol", "write", "batch_script", str(job), "-")


def _ask(*command: str) -> str:
    """What one of Slurm's programs prints. Raises UserError."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise UserError(f"{command[0]}: {' '.join(done.stderr.split())}")
    return done.stdout
