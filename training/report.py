"""What a training asks of whoever runs it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Report:
    """Hears of every epoch; keeps no checkpoints. A worker brings its own, which does.

    Args:
        after_epoch: called with what is reported.
        device: where to train.
    """

    checkpoint_due = False  # should `checkpoint` be called now? Asked after every step

    def __init__(self, after_epoch: Callable[..., None], device: str = "auto") -> None:
        self.after_epoch = after_epoch
        self.device = device

    def __call__(self, **epoch: Any) -> None:
        """One epoch has ended."""
        self.after_epoch(**epoch)

    def resume(self, read: Callable[[bytes], T]) -> T | None:
        """What `read` makes of an earlier checkpoint of the same training; None if there is none."""
        return None

    def checkpoint(self, data: bytes) -> None:
        """Keep this for `resume`."""
