"""What a program does that runs as a job of Slurm's: it asks for the time left, and comes back when that is up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from foldertune.errors import UserError
from foldertune.protocol import Folder
from foldertune.running.remote import ENDS_WORKERS

LAUNCHER = "FOLDERTUNE_LAUNCHER"  # the variable that says who has started a worker, such as `slurm 4711_3`
PATIENCE = 60.0  # seconds for an answer of Slurm's, whose controller may be busy


def own_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """The number of the job in which we run, such as `4711`, or `4711_3` in an array; None if it is none.

    SLURM_JOB_ID does not do: in one task of an array it is the number of the whole array.
    """
    if array := environment.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    return environment.get("SLURM_JOB_ID")


def seconds_left() -> float | None:
    """The time until Slurm ends this job; None if there is no job, or no limit, or nobody knows."""
    job = own_job()
    if not job:
        return None
    if end := os.environ.get("SLURM_JOB_END_TIME"):  # since Slurm 23.02
        with contextlib.suppress(ValueError):
            return float(end) - time.time()
    try:
        return read_duration(_ask("squeue", "-h", "-j", job, "-o", "%L").stdout.strip())
    except (OSError, subprocess.SubprocessError, ValueError):  # no program, no answer, or UNLIMITED
        return None


def read_duration(text: str) -> float:
    """The seconds of a time as Slurm writes it: 90 (minutes), 90:00, 1:30:00, 1-0, 1-12:30. Raises ValueError."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isascii() and part.isdecimal() for part in (*parts, *([days] if dash else []))) or len(parts) > 3:
        raise ValueError(text)
    numbers = [int(part) for part in parts]
    if not dash and len(numbers) < 3:
        numbers.insert(0, 0)
    hours, minutes, seconds = (*numbers, 0, 0)[:3]
    return int(days or 0) * 86400.0 + hours * 3600 + minutes * 60 + seconds


def leave(
    code: int, folder: Folder, number: int = 0, *, time_is_up: bool = False, halts: Sequence[str] = ENDS_WORKERS
) -> int:
    """The exit code with which a program leaves. As a job of Slurm's that has given its work back in order: 0.

    If its time is up and work is left, the job is queued again first. Any other signal comes with an end that Slurm
    has decided: a job that is cancelled must not come back, and one that is preempted comes back without our help.

    Args:
        code: the exit code without Slurm.
        number: the signal that has stopped the program; 0: none has.
        time_is_up: has it ended because too little time is left?
        halts: the requests of a person's that end such a program.

    Raises UserError if the job can't be queued again.
    """
    job, launcher = own_job(), os.environ.get(LAUNCHER)
    if job is None or launcher not in (None, f"slurm {job}"):
        return code  # a worker of several in this job: who has started it speaks to Slurm
    if (time_is_up or number == signal.SIGUSR1) and launcher and _is_wanted(folder, halts):
        queue_again(job)
    return code if number in (0, signal.SIGINT) else 0  # Ctrl-C is a person's, in a shell that Slurm has started


def queue_again(job: str) -> None:
    """Have Slurm end this job and put it back into its queue. Raises UserError."""
    try:
        done = _ask("scontrol", "requeue", job)
        lack = " ".join(done.stderr.split()) if done.returncode else ""
        if "pending" in lack:  # somebody else has done so
            return
    except (OSError, subprocess.SubprocessError) as error:
        lack = str(error)
    if lack:
        raise UserError(f"scontrol requeue {job}: {lack}; this job does not come back: start another one in its place")


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


def _is_wanted(folder: Folder, halts: Sequence[str]) -> bool:
    """Is the study incomplete, and has no person asked such programs to end? By the last listing, if there is none."""
    with contextlib.suppress(OSError):
        folder.names()
    return not folder.is_complete and folder.halt not in halts
