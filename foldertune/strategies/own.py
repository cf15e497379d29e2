"""A person's own strategy: a function in a file of theirs, given on the master's command line.

    def propose(study, number, history):
        return {"rate": 0.1 / (1 + number)}

    python master.py mine.toml --strategy mine.py:propose --logs mine-logs

`study.space` holds the hyperparameters, `history.counted` the trials with a result (`trial.settings`, `trial.result`)
by their numbers, `history.open` the settings of those that have none yet. The function returns a value for each
hyperparameter; None, to wait for more results; or `Answer.EXHAUSTED`, if there is nothing left to try.
"""

from __future__ import annotations

import importlib.util
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foldertune.errors import UserError, did_you_mean
from foldertune.protocol import Proposal
from foldertune.strategies.interface import Answer, History
from foldertune.strategies.plain import RandomSearch
from foldertune.study import SEED, Study
from foldertune.text import in_a_line

Function = Callable[[Study, int, History], Any]


class OwnSearch(RandomSearch):
    """A search by a person's own function."""

    is_reproducible = False
    is_adaptive = True

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._function = load_function(study.strategy)

    def choose(self, number: int, rng: random.Random) -> dict[str, Any]:
        """Nothing: the function chooses."""
        return {}

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """What the function answers. Raises UserError if that is no answer, or if it fails."""
        try:
            answer = self._function(self.study, number, history)
        except Exception as error:  # a person's own code may raise anything
            raise self._fault(f"trial {number}: {in_a_line(error)}{_where(error)}") from error
        if (answer is None or answer is Answer.WAIT) and not history.whole.open:
            raise self._fault(f"trial {number}: waits for results, but no trial is left that could bring one")
        if answer is None or isinstance(answer, Answer):
            return Answer.WAIT if answer is None else answer
        if not isinstance(answer, dict):
            raise self._fault(f"trial {number}: must return a dict, None or Answer.EXHAUSTED, not {answer!r:.80}")
        settings = {**self.settings(number), **answer, **self.study.fixed}
        if not self.study.contains(settings):
            raise self._fault(f"trial {number}: {answer!r:.200} is not in the search space of {self.study.name}: "
                              f"{self._outside(settings)}")  # fmt: skip
        return self.proposal(settings)

    def _outside(self, settings: dict[str, Any]) -> str:
        """What is wrong with settings that the space does not have."""
        known = {*self.study.space, *self.study.fixed, SEED}
        for name in sorted(settings.keys() - known):
            return f"{name!r} is no hyperparameter{did_you_mean(name, known)}"
        for name, dimension in self.study.space.items():
            if name not in settings and dimension.is_active(settings):
                return f"{name!r} is missing"
            if name in settings and not dimension.contains(settings[name]):
                return f"{name!r} can't be {settings[name]!r}"
        return "they don't meet its conditions or constraints"

    def _fault(self, what: str) -> UserError:
        return UserError(f"--strategy {self.study.strategy}: {what}")


def load_function(name: str) -> Function:
    """The function FILE:FUNCTION. Raises UserError."""
    file, _, function_name = name.rpartition(":")
    path = Path(file).expanduser()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--strategy {name}: write FILE.py:FUNCTION, such as mine.py:propose")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise UserError(f"--strategy {name}: there is no file {path}") from None
    except Exception as error:
        raise UserError(f"--strategy {name}: can't be loaded: {in_a_line(error)}{_where(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"--strategy {name}: {path} has no function '{function_name}'")
    return function  # type: ignore[no-any-return]


def _where(error: Exception) -> str:
    """The line of the person's file that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
