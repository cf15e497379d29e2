"""Writes scripts for Slurm's `sbatch`, which a person can read and keep, and submits them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foldertune.errors import UserError
from foldertune.launch.local import worker_command
from foldertune.launch.slurm_job import LAUNCHER, PATIENCE
from foldertune.protocol import Folder, make_directory, write_whole
from foldertune.shipped import HOME
from foldertune.text import counted

EARLY = 100.0  # seconds, besides the grace, from Slurm's warning to the end: it may be slow to send it
WIDTH = 100  # characters of a line of the command in a script


@dataclass
class Script:
    """A job for `sbatch`: an array of workers, or a master.

    Attributes:
        logs: the study's folder. Scripts and outputs go to launch/ in it.
        command: the program and its arguments.
        tasks: the workers; 0: it is a master.
        at_once: the most tasks that may work at the same time; None: all.
        warning: seconds before its end at which Slurm sends SIGUSR1.
        options: further options of sbatch's, the last one of a name counts.
    """

    logs: Path
    command: Sequence[str]
    tasks: int = 0
    at_once: int | None = None
    warning: float = EARLY
    options: Sequence[str] = field(default_factory=list)

    def __str__(self) -> str:
        is_array = self.tasks > 0
        number = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if is_array else "$SLURM_JOB_ID"
        who = counted(self.tasks, "worker") if is_array else "The master"
        output = worker_output(self.logs) if is_array else worker_output(self.logs).replace("%A_%a", "%j")
        array = f"1-{self.tasks}" + (f"%{self.at_once}" if self.at_once else "")
        options = [
            f"--job-name={self.logs.name}{'' if is_array else '-master'}",
            *([f"--array={array}"] if is_array else []),
            output,
            "--open-mode=append",
            f"--chdir={os.getcwd()}",
            "--export=ALL",
            "--requeue",
            f"--signal=B:USR1@{self.warning:.0f}",
            *self.options,
        ]
        return "\n".join([
            "#!/bin/bash",
            f"# {who} of foldertune; to submit again: sbatch FILE. Slurm warns {self.warning:.0f} s before the time",
            "# limit (SIGUSR1): then the program saves its work, and queues itself again while there is work left.",
            *map(line, options),
            "",
            f'export {LAUNCHER}="slurm {number}"',
            f"exec {_wrapped(self.command)}",
            "",
        ])  # fmt: skip

    def submit(self) -> str:
        """Give the script to Slurm, and keep it in the folder. Returns the job's number. Raises UserError."""
        make_directory(Folder(self.logs).launch)  # Slurm does not make it for the output
        job = sbatch(str(self))
        keep(self.logs, job, str(self))
        return job


def sbatch(script: str) -> str:
    """Submit this text: nobody can exchange it, as they could a file. Returns the job's number. Raises UserError."""
    check_slurm()
    command = ["sbatch", "--parsable"]
    try:
        done = subprocess.run(command, check=False, input=script, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"sbatch: no answer within {PATIENCE:.0f} s; is Slurm up? see scontrol ping") from None
    if done.returncode:
        raise UserError(f"sbatch: {' '.join(done.stderr.replace('sbatch: error: ', '').split())}")
    return done.stdout.strip().partition(";")[0]


def keep(logs: Path, job: str, script: str) -> None:
    """Keep a script in the folder, for people."""
    write_whole(Folder(logs).launch / f"slurm-{job}.sh", script.encode())


def check_slurm() -> None:
    """Raise UserError if there is no Slurm here."""
    if shutil.which("sbatch") is None:
        raise UserError("sbatch: is not here; use a login node of a cluster with Slurm, or see the script with --print")


def python_command(name: str) -> list[str]:
    """The command that starts this program as we were started: with this Python, from this checkout if it is one."""
    if name == "worker":
        return worker_command()
    script = HOME / f"{name}.py"
    return [sys.executable, *([str(script)] if script.is_file() else ["-P", "-m", "foldertune", name])]


def worker_output(logs: Path) -> str:
    """The option that says where an array of workers for this folder prints."""
    return f"--output={Folder(logs).launch}/slurm-".replace("%", "%%") + "%A_%a.out"


def line(option: str) -> str:
    """The line of a script that has this option. sbatch knows quotes, and a # begins a comment."""
    name, equals, value = option.partition("=")
    return f"#SBATCH {name}{equals}{shlex.quote(value) if value else ''}"


def _wrapped(words: Sequence[str]) -> str:
    """A command of several lines: each option begins one, unless it fits."""
    lines = [""]
    for word in map(shlex.quote, words):
        if lines[-1] and word.startswith("-") and len(lines[-1]) + len(word) > WIDTH // 2:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n    ".join(lines)
