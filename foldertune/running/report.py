"""What an objective is given: `report(epoch=3, training_loss=0.1, …)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from foldertune.protocol import Record
from foldertune.text import in_a_line

T = TypeVar("T")


class Listener:
    """Whom a report speaks to: all that passes between training code and the program that runs it.

    This one does nothing. `Attempt` writes to a trial's file for a worker; `exercise3.py` has one that prints.
    """

    def epoch(self, record: Record) -> None:
        """One epoch has ended."""

    def checkpoints(self) -> Iterator[tuple[str, bytes]]:
        """Path and contents of earlier checkpoints of the same training, the latest first."""
        return iter(())

    def checkpoint_is_due(self) -> bool:
        """Should the training save its state now?"""
        return False

    def keep(self, data: bytes) -> None:
        """Keep this state for a later attempt."""

    def say(self, message: str) -> None:
        """Tell whoever looks at this program's output."""


class Report:
    """What an objective calls after every epoch: `report(epoch=3, training_loss=0.1, …)`.

    To make a training resumable, do three more things: begin with `resume`, ask `checkpoint_due` after every step,
    and call `checkpoint` when it is true.

    Attributes:
        device: what `--device` said.
    """

    def __init__(self, listener: Listener, device: str = "auto") -> None:
        self.device = device
        self._listener = listener

    def __call__(self, epoch: int, **metrics: Any) -> None:
        """Add one line to the learning curve. Values are numbers, text, true/false or None.

        Raises LeaseLost if the trial was given to another worker: let it pass, there is nothing left to do here.
        """
        self._listener.epoch({"epoch": epoch, **{key: as_number(value) for key, value in metrics.items()}})

    def resume(self, read: Callable[[bytes], T]) -> T | None:
        """What `read` makes of the latest checkpoint of this trial that it can read; None if there is none.

        The trial's file then tells this attempt's story alone: report the earlier epochs again.
        """
        for path, data in self._listener.checkpoints():
            try:
                state = read(data)
            except Exception as error:  # whatever a person's own code raises over bytes it did not expect
                self._listener.say(f"{path}: can't resume from it: {in_a_line(error)}")
                continue
            self._listener.say(f"resumes from {path}")
            return state
        return None

    @property
    def checkpoint_due(self) -> bool:
        """Should `checkpoint` be called now? Cheap enough to be asked after every step. Raises LeaseLost."""
        return self._listener.checkpoint_is_due()

    def checkpoint(self, data: bytes) -> None:
        """Keep what a later attempt needs to go on from here. Does not return if this worker is to stop."""
        self._listener.keep(data)


def as_number(value: Any) -> Any:
    """A plain value for JSON from a number of numpy or torch; text, None and true/false pass. Raises TypeError."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a metric must be a number, text, true/false or None, not {value!r:.80}")
