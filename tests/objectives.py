"""Training code for tests: quick, slow, failing. Loaded by real workers with `--objective tests.objectives:…`."""

from __future__ import annotations

import os
import signal
import time


def quick(settings, report):
    """Nothing but the protocol."""
    report(epoch=1, validation_error=settings["x"])
    return {"validation_error": settings["x"]}


def brief(settings, report):
    """A twentieth of a second: longer than it takes a waiting worker to wake up for forty of them."""
    time.sleep(0.05)
    return {"validation_error": settings["x"]}


def slow(settings, report):
    """Ten epochs of a tenth of a second."""
    for epoch in range(1, 11):
        time.sleep(0.1)
        report(epoch=epoch, validation_error=settings["x"])
    return {"validation_error": settings["x"]}


def stuck(settings, report):
    """One endless epoch."""
    report(epoch=1, validation_error=1.0)
    while True:
        time.sleep(0.05)


def moody(settings, report):
    """Fails on the upper half of x, returns something else than a number, or no metric, at the very top."""
    x = settings["x"]
    if x > 0.9:
        return {"something": 1}
    if x > 0.8:
        return {"validation_error": "low"}
    if x > 0.5:
        raise ValueError(f"x is {x:.3f},\nwhich I don't like")
    return {"validation_error": x}


def deadly(settings, report):
    """Kills its worker on the upper half of x."""
    if settings["x"] > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"validation_error": settings["x"]}


def diverging(settings, report):
    """Numbers that JSON does not have, and those of numpy."""
    import numpy

    report(epoch=1, training_loss=float("inf"), validation_error=numpy.float32(0.5))
    return {"validation_error": float("nan"), "steps": numpy.int64(7), "diverged": numpy.bool_(True)}
