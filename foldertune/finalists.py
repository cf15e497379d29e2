"""Which settings of a search are confirmed. The counted trials tell it, to every master and every reader alike."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from foldertune.confirm import confirmed_by
from foldertune.protocol import Trial
from foldertune.space import identity
from foldertune.stopping import is_cut_short
from foldertune.study import SEED, Study
from foldertune.tables import finite


def settings_key(study: Study, settings: Mapping[str, Any]) -> Hashable:
    """What makes settings the same as others. The seed does not count, unless it is searched."""
    key: Hashable = identity(
        {name: value for name, value in sorted(settings.items()) if name != SEED or SEED in study.space}
    )
    return key


def is_whole(study: Study, trial: Trial) -> bool:
    """Has this trial shown what its settings are worth: by a whole training, to the highest fidelity?

    Trials outside of a study that was changed have not: they may have trained for longer, or on other data.
    """
    if (
        study.losses(trial.result) is None
        or trial.dropped
        or is_cut_short(trial.stopped)
        or study.has_collapsed(trial.settings, trial.result or {})
    ):
        return False
    if study.changes and not study.contains({**study.fixed, **trial.settings}):
        return False
    return study.trains_whole(trial.settings)


def finalists(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """The trials whose settings are confirmed, the best first. Confirmations are no candidates.

    Of equal settings the first trial stands for all, with the mean of their values.
    """
    if study.confirm is None:
        return []
    same: dict[Hashable, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.name.number):
        if confirmed_by(trial.why) is None and is_whole(study, trial):
            same.setdefault(settings_key(study, trial.settings), []).append(trial)

    def loss(members: list[Trial]) -> tuple[float, int]:
        values = [value for trial in members if (value := value_of(study, trial)) is not None]
        return study.sign * math.fsum(value / len(values) for value in values), members[0].name.number

    return [members[0] for members in sorted(same.values(), key=loss)[: study.confirm.best]]


def value_of(study: Study, trial: Trial) -> float | None:
    """A trial's value of the first metric; None if it has none."""
    return finite((trial.result or {}).get(study.metric))
