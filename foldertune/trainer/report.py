"""The report that an objective is given: `report(epoch=3, training_loss=0.1, …)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from foldertune.text import in_a_line
from foldertune.trainer.metrics import as_metrics

T = TypeVar("T")


class Stopped(BaseException):
    """This training must stop. A BaseException, so that no objective's `except Exception` swallows it."""


class Listener:
    """Receives everything that training code reports.

    This one does nothing. A worker's `Attempt` writes to the trial's file; `exercise3.py` has a listener that prints.
    """

    def epoch(self, record: dict[str, Any]) -> None:
        """Receive the metrics of an epoch that has ended."""

    def checkpoints(self) -> Iterator[tuple[str, bytes]]:
        """Path and contents of earlier checkpoints of the same training, the latest first."""
        return iter(())

    def resumed(self, path: str) -> None:
        """Hear that the training goes on from this checkpoint."""
        self.say(f"resumes from {path}")

    def checkpoint_is_due(self) -> bool:
        """Should the training save its state now?"""
        return False

    def keep(self, data: bytes) -> None:
        """Keep this state for a later attempt."""

    def say(self, message: str) -> None:
        """Print a message to this program's output."""


class Report:
    """An objective calls it after every epoch: `report(epoch=3, training_loss=0.1, …)`.

    To make a training resumable, do three more things: begin with `resume`, ask `checkpoint_due` after every step,
    and call `checkpoint` when it is true.

    Attributes:
        device: where to train, by the name that PyTorch gives it: `cpu`, `cuda:0`, `mps`; `--device` chooses it.
        gpus: how many GPUs it may use: as many as `--gpus-per-trial` says, 0 on the CPU. Several are `cuda`.
    """

    def __init__(self, listener: Listener, device: str = "cpu", gpus: int | None = None) -> None:
        self.device = device
        self.gpus = int(device != "cpu") if gpus is None else gpus
        self._listener = listener
        self._noted: set[str] = set()

    def __call__(self, /, epoch: float, **metrics: Any) -> None:
        """Add one line to the learning curve. Values are numbers, text, true/false or None, or small lists of them.

        Raises Stopped if the trial was given to another worker, or this one must end. Don't catch it.
        """
        kept = as_metrics({"epoch": epoch, **metrics}, self._note)
        self._listener.epoch({"epoch": None, **kept})  # a line is told by its first key

    def _note(self, message: str) -> None:
        """Say something that holds for every epoch, once."""
        if message not in self._noted:
            self._noted.add(message)
            self._listener.say(message)

    def resume(self, read: Callable[[bytes], T]) -> T | None:
        """Pass the latest checkpoint of this trial to `read`, and return its value; None if there is no checkpoint.

        If `read` raises an error, the checkpoint before that one is tried. Report the earlier epochs again, because
        only the reports of this attempt count.
        """
        for path, data in self._listener.checkpoints():
            try:
                state = read(data)
            except Exception as error:  # a user's own code may raise anything for unexpected bytes
                self._listener.say(f"{path}: can't resume from it: {in_a_line(error)}")
                continue
            self._listener.resumed(path)
            return state
        return None

    @property
    def checkpoint_due(self) -> bool:
        """Should `checkpoint` be called now? This is cheap enough to ask after every step. Raises Stopped.

        Ask also after each report: a later trial may go on where this one ends.
        """
        return self._listener.checkpoint_is_due()

    def checkpoint(self, data: bytes) -> None:
        """Keep the state from which a later attempt resumes. Does not return if this worker must stop."""
        self._listener.keep(data)
