"""Checks a study before its search begins: what would fail on every worker should not be published."""

from __future__ import annotations

from foldertune.errors import StudyError
from foldertune.nesting import nest
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE, shipped_studies
from foldertune.space import Categorical
from foldertune.study import Study
from foldertune.trainer.objective import shipped_check


def check_settings(study: Study, source: str) -> None:
    """Raise StudyError if the shipped objective can't train with the study's settings, before a worker fails."""
    if study.objective != DEFAULT_OBJECTIVE:
        return
    check = shipped_check()
    values = {
        key: dimension.choices if isinstance(dimension, Categorical) else (dimension.low, dimension.high)
        for key, dimension in study.space.items()
    }
    first = {**study.fixed, **{key: options[0] for key, options in values.items()}}
    for key, options in values.items():
        for option in options:
            try:
                check(nest({**first, key: option}))
            except ValueError as error:
                own = f'; for training code of your own add objective = "MODULE:FUNCTION", or "{COMMAND_OBJECTIVE}"'
                raise StudyError(f"{source}: {error}{'' if source in shipped_studies() else own}") from None
