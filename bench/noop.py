"""Objectives that cost nothing, so that only the cost of coordination remains."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def train(settings: dict[str, Any], report: Callable[..., None]) -> dict[str, Any]:
    """Report one epoch without any work, and return a metric."""
    report(epoch=1, validation_error=settings["x"])
    return {"validation_error": settings["x"]}


def sleep(settings: dict[str, Any], report: Callable[..., None]) -> dict[str, Any]:
    """Sleep as long as the settings say."""
    time.sleep(settings["lasts"] * settings["x"])
    return {"loss": settings["x"]}
