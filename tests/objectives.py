"""Training code for tests: quick, slow, failing. Loaded by real workers with `--objective tests.objectives:…`."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time


def quick(settings, report):
    """Does no work: exercises only the protocol."""
    report(epoch=1, validation_error=settings["x"])
    return {"validation_error": settings["x"]}


def valley(settings, report):
    """Its loss is lowest at a rate of 0.15."""
    return {"loss": abs(settings["rate"] - 0.15)}


def trading(settings, report):
    """Its error is lowest at 0.5, and what it costs grows with x. Above 0.9 it forgets the cost; below 0.1 there is none."""
    x = settings["x"]
    report(epoch=1, validation_error=(x - 0.5) ** 2)
    cost = {} if x > 0.9 else {"cost": math.nan if x < 0.1 else x}
    return {"validation_error": (x - 0.5) ** 2, **cost}


def thoughtful(settings, report):
    """Its report comes a while after its claim, and its result after that, so that each is written apart."""
    time.sleep(0.3)
    report(epoch=1, validation_error=settings["x"])
    time.sleep(0.3)
    return {"validation_error": settings["x"]}


def brief(settings, report):
    """Takes a twentieth of a second, so that forty of them last longer than a waiting worker sleeps."""
    time.sleep(0.05)
    return {"validation_error": settings["x"]}


def slow(settings, report):
    """Ten epochs of a tenth of a second."""
    for epoch in range(1, 11):
        time.sleep(0.1)
        report(epoch=epoch, validation_error=settings["x"])
    return {"validation_error": settings["x"]}


def held(settings, report):
    """One epoch. On the upper half of x it lasts as long as there is a file $HOLD."""
    report(epoch=1, validation_error=settings["x"])
    while settings["x"] > 0.5 and os.path.exists(os.environ["HOLD"]):
        time.sleep(0.1)
    return {"validation_error": settings["x"]}


def late(settings, report):
    """The same, after a third of a second: so a master sees each result before the next."""
    time.sleep(0.3)
    return held(settings, report)


def lingering(settings, report):
    """Four epochs, each better than the one before. On the upper half of x it gets no better, and its sixth never ends."""
    x, epoch = settings["x"], 0
    while epoch < 4 or x > 0.5:
        epoch += 1
        time.sleep(0.05)
        report(epoch=min(epoch, 6), validation_error=x if x > 0.5 else x / epoch)
    return {"validation_error": x}


def asked(settings, report):
    """Reports until it is told to wait for a request. When that is there, it goes on, hangs (x = 1) or ends (x = 2)."""
    x, epoch, logs = settings["x"], 0, os.environ["LOGS"]
    while x < 1 or not os.path.exists(f"{logs}/wait-{x}"):
        epoch += 1
        report(epoch=epoch, validation_error=x, pid=os.getpid())
        time.sleep(0.02)
    with open(f"{logs}/waits-{x}.part", "w") as file:
        file.write(str(epoch))
    os.rename(f"{logs}/waits-{x}.part", f"{logs}/waits-{x}")
    while not any(name.endswith(".stop") for name in os.listdir(logs)):
        time.sleep(0.02)
    time.sleep(1.2)  # by then, the worker will look again
    child = os.fork()
    if child == 0:  # we might be stopped by our own report, if the worker is quick
        report(epoch=epoch + 1, validation_error=x)
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(600 if x == 1 else 0.2)
    return {"validation_error": x, "pid": os.getpid()}


def stuck(settings, report):
    """One endless epoch."""
    report(epoch=1, validation_error=1.0)
    while True:
        time.sleep(0.05)


def moody(settings, report):
    """Fails on the upper half of x. At the very top it returns no metric, or one that is not a number."""
    x = settings["x"]
    if x > 0.9:
        return {"something": 1}
    if x > 0.8:
        return {"validation_error": "low"}
    if x > 0.5:
        raise ValueError(f"x is {x:.3f},\nwhich I don't like")
    return {"validation_error": x}


def deadly(settings, report):
    """Kills its own process on the upper half of x, as the kernel does when memory runs out."""
    if settings["x"] > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"validation_error": settings["x"]}


def murderous(settings, report):
    """Kills its worker on the upper half of x."""
    if settings["x"] > 0.5:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return {"validation_error": settings["x"]}


def diverging(settings, report):
    """Reports numbers that JSON does not have, and numbers of numpy."""
    import numpy

    report(epoch=1, training_loss=float("inf"), validation_error=numpy.float32(0.5))
    return {"validation_error": float("nan"), "steps": numpy.int64(7), "diverged": numpy.bool_(True)}


def resumable(settings, report):
    """Ten epochs that can be resumed, in a few lines."""
    epoch = began_at = report.resume(int) or 0
    for epoch in range(began_at + 1, 11):
        time.sleep(0.1)
        report(epoch=epoch, validation_error=settings["x"])
        if report.checkpoint_due:
            report.checkpoint(str(epoch).encode())
    return {"validation_error": settings["x"], "began_at": began_at, "epochs": epoch}


def enduring(settings, report):
    """Epochs of a fifth of a second: five, and more as long as there is a file $HOLD. It goes on from any checkpoint."""
    epoch = report.resume(int) or 0
    while epoch < 5 or os.path.exists(os.environ["HOLD"]):
        epoch += 1
        time.sleep(0.2)
        report(epoch=epoch, validation_error=settings["x"])
        if report.checkpoint_due:
            report.checkpoint(str(epoch).encode())
    return {"validation_error": settings["x"], "epochs": epoch}


def steadfast(settings, report):
    """Saves a checkpoint after its first epoch, prints, and waits for HOLD seconds; accepts damaged settings."""
    x = float(settings.get("x") or 0.0)
    report.resume(bytes)
    report(epoch=1, validation_error=x)
    report.checkpoint(b"learnt")
    print("held")
    time.sleep(float(os.environ.get("HOLD") or 0.01))
    return {"validation_error": x}


def patient(settings, report):
    """One epoch, and then no word as long as there is a file $HOLD; it can be resumed."""
    began_at = report.resume(int) or 0
    if not began_at:
        report(epoch=1, validation_error=settings["x"])
    while os.path.exists(os.environ["HOLD"]):
        time.sleep(0.05)
        if report.checkpoint_due:
            report.checkpoint(b"1")
    return {"validation_error": settings["x"], "began_at": began_at}


def heedless(settings, report):
    """Says that it saves checkpoints, and never does."""
    report.resume(bytes)
    stuck(settings, report)


def hanging(settings, report):
    """Hangs for good on the upper half of x: in Python or, at the top, in a call that never returns to Python."""
    x = settings["x"]
    report(epoch=1, validation_error=x)
    if x > 0.75:
        hang_outside_python()
    while x > 0.5:
        time.sleep(0.05)
    return {"validation_error": x}


def hang_outside_python():
    """A lock taken twice by the C library's mutex: no signal handler of Python ever runs again in this thread."""
    import ctypes

    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def greedy(settings, report):
    """Asks for more memory than there is, on the upper half of x."""
    import resource

    if settings["x"] > 0.5:
        resource.setrlimit(resource.RLIMIT_AS, (2**31, resource.getrlimit(resource.RLIMIT_AS)[1]))
        bytearray(2**33)
    return {"validation_error": settings["x"]}


def quitting(settings, report):
    """Calls sys.exit, as an objective made from a script may."""
    raise SystemExit("no data here" if settings["x"] > 0.5 else 0)


def no_gpu_memory(settings, report):
    """Raises an error like PyTorch's when a GPU's memory is used up, because there is no GPU to do it for real."""
    if settings["x"] > 0.5:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return {"validation_error": settings["x"]}


def hung(settings, report):
    """Hangs outside of Python."""
    report(epoch=1, validation_error=0.5)
    hang_outside_python()


def unpretentious(settings, report):
    """Accepts any settings, even those of a damaged file."""
    report(epoch=1, validation_error=0.5)
    return {"validation_error": 0.5}


def talkative(settings, report):
    """Takes a twentieth of a second, and reports lines that need room on the disk."""
    time.sleep(0.05)
    report(epoch=1, validation_error=settings["x"], note="x" * 5000)
    return {"validation_error": settings["x"]}


def placed(settings, report):
    """Returns the device on which it was asked to train, and the number of trials that share it."""
    time.sleep(0.1)
    threads = int(os.environ["OMP_NUM_THREADS"])
    return {
        "validation_error": 0.0,
        "device": report.device,
        "gpus": report.gpus,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "sharers": int(os.environ["TRIALS_PER_GPU"]),
        "threads": threads,
        "cores": sorted(os.sched_getaffinity(0)),
        "launcher": os.environ.get("FOLDERTUNE_LAUNCHER"),
    }


def hungry(settings, report):
    """Takes memory as $HUNGER says, a letter for each trial, and waits a while."""
    megabytes, processes = 150, []
    kind = os.environ["HUNGER"][settings["trial"]]
    if kind == "i":  # itself, for ever more
        kept = []
        while True:
            kept.append(b"x" * 2**24)
            time.sleep(0.02)
    elif kind == "c":  # a child of its own session, as torchrun starts its processes
        fill = f"kept = b'x' * {4 * megabytes} * 2**20; import time; time.sleep(600)"
        processes = [subprocess.Popen([sys.executable, "-c", fill], start_new_session=True)]
        report(epoch=1, child=processes[0].pid)
        processes[0].wait()
    elif kind == "s":  # four children that share its own, as the workers of a data loader do
        kept = b"x" * megabytes * 2**20
        if not all(os.fork() for _ in range(4)):
            time.sleep(1)
            os._exit(0)
        for _ in range(4):
            os.wait()
    return {"validation_error": 0.0}


def nested(settings, report):
    """Multiplies a setting by one in a table."""
    loss = settings["rate"] * settings["model"]["width"]
    report(epoch=1, loss=loss)
    return {"loss": loss}


def echo(settings, report):
    """Returns its settings as text: exactly what it was given."""
    report(epoch=1, loss=len(str(settings)))
    return {"loss": len(str(settings)), "given": json.dumps(settings)}


class Unprintable:
    """Raises an error when somebody prints it."""

    def __repr__(self):
        raise RuntimeError("no text")


def odd(settings, report):
    """Reports and returns what no table expects; `kind` says what."""
    import decimal
    import fractions

    import numpy

    kind, names = settings["kind"], ("trial", "claimed", "result", "error", "settings", "epoch", "status", "worker")
    if kind == "values":
        odd = {
            "list": [1, (2.5, None)],
            "dict": {1: {"a": True}},
            "array": numpy.arange(3),
            "bytes": b"x",
            "complex": 1j,
        }
        odd |= {"decimal": decimal.Decimal("0.5"), "fraction": fractions.Fraction(1, 4), "huge": 10**5000}
        odd |= {"unprintable": Unprintable(), "long": list(range(5000)), "one": numpy.array([[0.5]]), "deep": deep()}
        report(epoch=numpy.int64(1), **odd)
        report(epoch=numpy.int64(2), **odd)
        return {"validation_error": numpy.float32(0.25), 7: 1, None: 2, Unprintable(): 3, "7": 4, **odd}
    if kind == "names":
        report(epoch=1, self=0.5, **{name: 0.5 for name in names if name != "epoch"})
        return {"validation_error": 0.5, "result_trial": 0.25, **dict.fromkeys(names, 0.5)}
    if kind == "many":
        for epoch in range(1, 201):
            report(epoch=epoch, validation_error=1 / epoch, note="x" * 100_000)
    if kind == "large":
        report(epoch=1, note="x" * 20_000_000)
        return {"validation_error": 0.75, "note": "x" * 20_000_000}
    if kind == "wordy":
        raise ValueError("x" * 20_000_000)
    if kind == "nameless signal":
        report(epoch=3)
        os.kill(os.getpid(), 35)
    if kind == "murderous":
        report(epoch=3)
        report.resume(bytes)  # the worker answers when it has written the report
        os.kill(os.getppid(), 35)
        time.sleep(60)
    return {"validation_error": 1.0}


def deep():
    """A list in a list in a list …"""
    value = []
    for _ in range(500):
        value = [value]
    return value


def small(settings, report):
    """Returns its one setting."""
    return {"validation_error": settings["size"]}


def broken(settings, report):
    """Raises an error that names its settings, until it is repaired."""
    report(epoch=1, device=report.device)
    if os.environ.get("BROKEN"):
        raise ValueError(f"no such layer: {settings['x'] - 0.5}")
    return {"validation_error": settings["x"]}


def lengthy(settings, report):
    """Trains for as many epochs as its settings say, and says on which device."""
    for epoch in range(1, settings["epochs"] + 1):
        report(epoch=epoch, validation_error=settings["x"], device=report.device)
    return {"validation_error": settings["x"]}


def climbing(settings, report):
    """A training that goes on from any checkpoint: it counts the epochs of this process apart from all."""
    saved = report.resume(json.loads)
    epochs, loss = (saved["epochs"], saved["loss"]) if saved else (0, 1.0)
    trained = 0
    while epochs < settings["epochs"]:
        epochs, trained, loss = epochs + 1, trained + 1, loss / 2 + settings["x"] / 2
        report(epoch=epochs, loss=loss)
        if report.checkpoint_due:
            report.checkpoint(json.dumps({"epochs": epochs, "loss": loss}).encode())
    return {"loss": loss, "trained": trained, "seed": settings["seed"]}


def measured(settings, report):
    """A training of so many (pretended) seconds, half a second a report, which goes on from any checkpoint."""
    begun = done = report.resume(json.loads) or 0.0
    while done < settings["seconds"]:
        done += 0.5
        report(epoch=int(done / 0.5), loss=settings["x"])
        if report.checkpoint_due:
            report.checkpoint(json.dumps(done).encode())
    return {"loss": settings["x"], "trained": done - begun}


def ambling(settings, report):
    """As `climbing`, after a quarter of a second: so the master looks while it trains."""
    time.sleep(0.25)
    return climbing(settings, report)


def stepping(settings, report):
    """Goes on from any checkpoint; its result is x, if what it goes on from was its own."""
    begun = report.resume(json.loads) or {"x": settings["x"], "epoch": 0}
    for epoch in range(begun["epoch"] + 1, settings["epochs"] + 1):
        report(epoch=epoch, validation_error=begun["x"])
        if report.checkpoint_due:
            report.checkpoint(json.dumps({"x": begun["x"], "epoch": epoch}).encode())
    return {"validation_error": begun["x"]}


def noisy(settings, report):
    """Its loss is x and what chance adds, by the seed; it goes on from any checkpoint, and counts what it trains itself."""
    begun = report.resume(int) or 0
    loss = settings["x"] + random.Random(settings["seed"]).random() / 2
    for epoch in range(begun + 1, settings.get("epochs", 1) + 1):
        report(epoch=epoch, loss=loss + 1 / epoch)
        if report.checkpoint_due:
            report.checkpoint(str(epoch).encode())
    return {"loss": loss, "trained": settings.get("epochs", 1) - begun}


def fragile(settings, report):
    """The same, but it fails with every fourth seed."""
    if settings["seed"] % 4 == 2:
        raise ValueError("an unlucky seed")
    return noisy(settings, report)


def slowly(settings, report):
    """Every epoch takes a while, and is reported with the same loss."""
    loss = settings["x"] + random.Random(settings["seed"]).random() / 2
    for epoch in range(1, settings["epochs"] + 1):
        time.sleep(0.05)
        report(epoch=epoch, loss=loss)
    return {"loss": loss}


def placed_badly(settings, report):
    """Fails where there is $BROKEN; elsewhere it prints, and takes a quarter of a second."""
    if os.environ.get("BROKEN"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    print("trained", settings["x"], flush=True)
    time.sleep(0.25)
    return {"validation_error": settings["x"]}


def on_shared_gpu(settings, report):
    """Fails as a GPU does: below 0.2 in MPS, by somebody else's fault; below 0.1 always, by its own."""
    x, told = settings["x"], "CUDA error: an illegal memory access was encountered"
    shared = os.path.exists(os.path.join(os.environ["CUDA_MPS_PIPE_DIRECTORY"], "control"))
    report(epoch=1, validation_error=x)
    if x < 0.1 or (x < 0.2 and shared):
        raise RuntimeError(told)
    if x > 0.9:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB" if x > 0.95 else "no such layer")
    return {"validation_error": x, "shared": shared}
