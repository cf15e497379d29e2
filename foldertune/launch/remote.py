"""What `foldertune launch ssh` does on each host: find out whether workers can work there, become one, or end one.

It runs there, with the Python that workers will have. Whoever asked reads the lines that begin with MARK: the rest may
come from the host's login scripts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foldertune.errors import UserError
from foldertune.launch.local import open_log, worker_command
from foldertune.launch.machine import choose_devices, count_cores, let_others_finish, split_cores, stay_on
from foldertune.launch.slurm_job import LAUNCHER
from foldertune.protocol import (
    Folder,
    host_name,
    identify_process,
    lack_of_rights,
    make_directory,
    utc_now,
    write_whole,
)
from foldertune.text import in_a_line

MARK = "foldertune answers: "
LONGEST_CACHE = 5.0  # seconds for which a file server's client may not show a new file
LOCKS = "/tmp"  # on a disk of the host's own, the same for each login: not $TMPDIR

Answer = dict[str, Any]


@dataclass
class Request:
    """What is wanted of a host.

    Attributes:
        logs: the shared folder, as the host sees it.
        token: a file in it that has just been made elsewhere; its contents are its name.
        options: of the worker, except for its folder and device.
        device: the device, "auto" or "all".
        trials_per_gpu: workers per GPU; None: as many as fit.
        gpus_per_trial: with more than one, a device is a group of GPUs.
        cores: of each worker, its own; None: the system decides.
        workers: the number of workers; None: `trials_per_gpu` on each GPU, or one per core if there is none.
        name: what the person calls this host.
        start: the number of the worker to start, from 1.
        end: the number of the worker to end. Without either, look.
        devices: of all workers of this host, as it has said when it was looked at.
    """

    logs: str
    token: str
    options: list[str]
    device: str = "all"
    trials_per_gpu: int | None = 1
    gpus_per_trial: int = 1
    cores: int | None = None
    workers: int | None = None
    name: str = ""
    start: int | None = None
    end: int | None = None
    devices: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """The request as `answer` takes it."""
        return json.dumps(asdict(self))


def answer(text: str) -> None:
    """Do what a request asks for, and say what came of it."""
    try:
        request = Request(**json.loads(text))
        request.logs = os.path.expanduser(request.logs)
        if request.start is not None:
            become_worker(request, request.start)
        elif request.end is not None:
            say(end_worker(request.logs, request.end))
        else:
            say(look(request))
    except UserError as error:
        say({"error": str(error)})
    except Exception as error:  # it is read on another machine: a traceback would be of no use
        say({"error": in_a_line(error)})


def say(message: Answer) -> None:
    """Print an answer: one write, because several workers start at once."""
    os.write(1, f"{MARK}{json.dumps(message)}\n".encode())


# ---------------------------------------------------------------- look


def look(request: Request) -> Answer:
    """Find out which workers run here, and whether others can. Raises UserError."""
    check_folder(Path(request.logs), request.token)
    Folder(request.logs).check_parts()
    devices = choose_devices(
        request.device, request.trials_per_gpu, request.workers, request.gpus_per_trial, request.cores or 1
    )
    if request.cores:
        split_cores(len(devices), request.cores)
    running = find_running(request.logs)
    if not running.keys() >= set(range(1, len(devices) + 1)):
        check_objective(request)
    return {"devices": devices, "running": running}


def check_folder(logs: Path, token: str) -> None:
    """Raise UserError unless this is the very folder that the launcher sees, and we may work in it."""
    deadline = time.monotonic() + LONGEST_CACHE
    while True:
        with contextlib.suppress(OSError):
            os.listdir(logs)  # NFS: it makes the client ask the server
        try:
            if (logs / token).read_text() == token:
                break
        except OSError:
            if not logs.is_dir():
                raise UserError(f"{logs}: there is no such directory") from None
        if time.monotonic() > deadline:
            raise UserError(f"{logs}: is another folder there, not the shared one")
        time.sleep(0.1)
    if lack := lack_of_rights(logs):
        raise UserError(lack)


def check_objective(request: Request) -> None:
    """Raise UserError if a worker could not train here."""
    shared = "auto" if request.trials_per_gpu is None else str(request.trials_per_gpu)
    where = ["--logs", request.logs, "--device", request.device, "--trials-per-gpu", shared]
    command = [*worker_command(), *request.options, *where, "--check"]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        last = done.stdout.strip().rpartition("\n")[2]
        raise UserError(last.removeprefix("error: ") or f"the worker's check ended with exit code {done.returncode}")


# ---------------------------------------------------------------- start and end


def become_worker(request: Request, number: int) -> None:
    """Become the worker with this number, unless it runs already. It outlives the connection."""
    lock = take_lock(request.logs, number)
    if lock is None:
        return say({"worker": number, "process": holder(request.logs, number), "what": "was running"})
    device = request.devices[number - 1]
    folder = Folder(request.logs)
    make_directory(folder.launch)
    name = str(folder.launch / f"{request.name}-{number}")
    os.environ |= {LAUNCHER: f"ssh {number}", "TRIALS_PER_GPU": str(request.devices.count(device))}
    command = [*worker_command(), *request.options, "--logs", request.logs, "--device", device]
    write_whole(f"{name}.json", json.dumps(describe(request, number, device, command)).encode() + b"\n")
    with contextlib.suppress(PermissionError):  # we lead a session already
        os.setsid()
    for cores in split_cores(len(request.devices), request.cores)[number - 1 : number] if request.cores else ():
        stay_on(cores)
    if len(request.devices) > count_cores():
        let_others_finish(os.getpid())
    with open_log(Path(f"{name}.log")) as log, open(os.devnull) as nothing:
        say({"worker": number, "process": os.getpid(), "what": "started"})
        for descriptor, file in ((0, nothing), (1, log), (2, log)):
            os.dup2(file.fileno(), descriptor)
    os.set_inheritable(lock, True)  # by the worker that we become, and by nothing that it starts
    os.execv(command[0], command)


def describe(request: Request, number: int, device: str, command: list[str]) -> Answer:
    """What is started, for people to read."""
    where = {"launcher": f"ssh {number}", "name": request.name, "host": host_name(), "device": device}
    process = {"pid": os.getpid(), "process": identify_process(), "time": utc_now()}
    return {**where, **process, "directory": os.getcwd(), "command": command}


def end_worker(logs: str, number: int) -> Answer:
    """Have this worker save its trial, give it back and end. Raises UserError if it is not a process that we see."""
    process = holder(logs, number)
    if process is None:
        return {"worker": number, "process": "", "what": "had ended"}
    if lock_file(logs, number) not in open_files(process):
        raise UserError(f"worker {number} is process {process} of a container; end it there")
    os.kill(process, signal.SIGTERM)
    return {"worker": number, "process": process, "what": "saves its trial and ends"}


def open_files(process: int) -> Iterator[str]:
    """The files that a process has open; none where /proc does not tell."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(entry.path)


# A worker holds a lock on a file of its host's own for as long as it lives. The kernel lets go of it at any end: at
# kill -9, or when the machine restarts. Process numbers, boots and names of hosts need not be compared, and of two
# launchers at the same moment one gets it. systemd, when it tidies /tmp up, leaves locked files alone.


def lock_file(logs: str, number: int) -> str:
    """The file whose lock this user's worker with this number holds, in this folder, on this host."""
    return f"{_locks(logs)}{number}.lock"


def _locks(logs: str) -> str:
    folder = hashlib.sha256(os.fsencode(os.path.realpath(logs))).hexdigest()[:16]
    return f"{LOCKS}/.foldertune-{os.getuid()}-{folder}-"


def find_running(logs: str) -> dict[int, int]:
    """The workers of this user that run here, in this folder: their processes by their numbers."""
    before, after = _locks(logs), ".lock"
    names = (entry.path for entry in os.scandir(LOCKS) if entry.path.startswith(before))
    numbers = (name.removeprefix(before).removesuffix(after) for name in names)
    found = {int(number): holder(logs, int(number)) for number in numbers if number.isdecimal()}
    return {number: process for number, process in sorted(found.items()) if process is not None}


def take_lock(logs: str, number: int) -> int | None:
    """A descriptor that holds the lock, with our process number in the file; None if another process has it."""
    path = lock_file(logs, number)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; remove it") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def holder(logs: str, number: int) -> int | None:
    """The number of the process that holds the lock; None if none does."""
    try:
        descriptor = os.open(lock_file(logs, number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0) or 0)
    finally:
        os.close(descriptor)
