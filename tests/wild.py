"""Training code that does everything to its process that training code has been seen to do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def train(settings, report):
    """Do what the settings say, after the first epoch. Most of it should not matter to anybody else."""
    report(epoch=1, loss=1.0)
    print("epoch 1 is over")
    result = globals()[settings["what"]](report)
    return {"loss": 0.5, "pid": os.getpid(), **(result or {})}


def square(x):
    return x * x


# ---- what is nobody else's concern


def uses_a_pool(report):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(square, [1, 2, 3]) == [1, 4, 9]


def ends_a_child(report):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    return {"exit_code": child.exitcode}


def replaces_signal_handlers(report):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


def changes_directory(report):
    os.chdir("/")


def closes_its_output(report):
    sys.stdout.close()
    os.close(2)


def redirects_its_output(report):
    sys.stdout = sys.stderr = open(os.devnull, "w")
    os.dup2(sys.stdout.fileno(), 1)


def finds_its_directory_and_output(report):
    print("still heard")
    sys.stderr.write("here, too\n")
    return {"directory": os.getcwd()}


def leaves_a_thread(report):
    threading.Thread(target=time.sleep, args=(600,)).start()


def leaves_a_process(report):
    return {"left": subprocess.Popen(["sleep", "600"]).pid}


# ---- what ends the attempt, and nothing else


def calls_exit(report):
    sys.exit("no data here")


def calls_os_exit(report):
    print("I leave")
    os._exit(7)


def interrupts(report):
    raise KeyboardInterrupt


def is_cancelled(report):
    raise asyncio.CancelledError


def raises_what_cannot_be_shown(report):
    class Unspeakable(BaseException):
        def __str__(self):
            raise RuntimeError("no words")

    raise Unspeakable


def breaks_memory(report):
    ctypes.string_at(0)


def is_killed(report):
    os.kill(os.getpid(), signal.SIGKILL)


def gets_a_nameless_signal(report):
    os.kill(os.getpid(), 35)


def opens_everything(report):
    kept = []
    while True:
        kept.append(open(os.devnull))


def closes_everything(report):
    os.closerange(3, 1000)
    time.sleep(600)


def talks_nonsense(report):
    for descriptor in range(3, 20):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"nonsense\n")
    time.sleep(600)


# ---- alone in a study


def endless(settings, report):
    """Train for ever, with helpers that a signal for the whole group ends first, as PyTorch's data loaders."""
    report(epoch=1, loss=1.0)
    helper = subprocess.Popen(["sleep", "600"])
    Path(settings["pids"]).write_text(f"{os.getpid()} {helper.pid}")
    helper.wait()
    raise RuntimeError(f"data loader (pid {helper.pid}) is killed")


def careful(settings, report):
    """Save a checkpoint when asked to, which takes a moment."""
    epoch = report.resume(int) or 0
    while epoch < settings["epochs"]:
        epoch += 1
        time.sleep(0.1)
        report(epoch=epoch, loss=1.0)
        if report.checkpoint_due:
            time.sleep(0.5)
            report.checkpoint(str(epoch).encode())
    return {"loss": 0.5, "epochs": epoch}


def loud(settings, report):
    """Print five megabytes, and fail."""
    print("the beginning")
    for line in range(50_000):
        print(f"{line:099d}")
    raise ValueError("the end")
