"""What a strategy is told, what it answers, and what it has to offer."""

from __future__ import annotations

import enum
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from foldertune.protocol import Trial
from foldertune.study import Study


@dataclass(frozen=True)
class Proposal:
    """A trial to publish: its settings, how far to train, and the trial whose checkpoint it goes on from."""

    settings: dict[str, Any]
    fidelity: float | None = None  # None: to the end
    parent: int | None = None


class Answer(enum.Enum):
    """Instead of a proposal."""

    WAIT = "wait"  # for more results
    EXHAUSTED = "exhausted"  # there is nothing left to try


@dataclass(frozen=True)
class History:
    """What is known when a strategy is asked, by trial number."""

    counted: Mapping[int, Trial] = field(default_factory=dict)
    open: Mapping[int, dict[str, Any] | None] = field(default_factory=dict)  # their settings; None: not read


class Strategy(Protocol):
    """Chooses the settings of a study's trials.

    is_reproducible: the settings depend on the study and the number alone, so a file that was torn can be written
        again, and need not be synced.
    ahead: for how many trials without a result it may be asked; None: as many as you like.
    """

    is_reproducible: bool
    ahead: int | None

    def __init__(self, study: Study) -> None: ...

    @classmethod
    def plan(cls, study: Study, source: str, trials: int | None, repeats: int | None) -> Study:
        """The study with the command line's `trials` and `repeats`, and its number of trials if it had none.

        Raises StudyError, naming `source` or the option, for a study that this strategy can't search.
        """
        ...

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """What to try as this trial. The same number may be asked for again, if its file is lost."""
        ...

    def needs(self, history: History) -> Container[int]:
        """The counted trials whose checkpoints a later proposal may still go on from."""
        ...
