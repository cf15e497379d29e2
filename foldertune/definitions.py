"""Compares the definitions of studies: are these the same search?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foldertune.space import dimension_record, identity
from foldertune.study import Study

# These, [fixed] and [space] define the search.
_SEARCHED = ("objective", "strategy", "seed", "metric", "direction", "constraints")


def differences(old: Study, new: Study) -> list[str]:
    """The differences that make these two different searches, one phrase each. Budget and descriptions don't count."""
    a, b = (
        {**definition(each), **{f"before.{name}": value for name, value in each.before.items()}} for each in (old, new)
    )
    b = {**{key: value for key, value in a.items() if key.startswith("before.")}, **b}  # it may be left out later
    missing = "not there"
    return [
        f"{key} ({a.get(key, missing)} in the folder, now {b.get(key, missing)})"
        for key in dict.fromkeys([*a, *b])
        if identity(a.get(key, missing)) != identity(b.get(key, missing))
    ]


def compare(studies: Sequence[Study]) -> dict[str, list[Any]]:
    """The parts of their definitions in which these studies differ, with the value in each study; None: not there."""
    flat = [
        {**definition(study), "trials": study.trials or None, "repeats": study.repeats}
        | {f"budget.{key}": value for key, value in study.budget.to_record().items()}
        | {f"stopping.{key}": value for key, value in (study.stopping.to_record() if study.stopping else {}).items()}
        | {f"confirm.{key}": value for key, value in (study.confirm.to_record() if study.confirm else {}).items()}
        for study in studies
    ]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def definition(study: Study) -> dict[str, Any]:
    """What makes it this search and no other, by dotted keys."""
    record = study.to_record()
    flat = {key: record[key] for key in _SEARCHED if key in record}
    flat |= {f"fixed.{key}": value for key, value in study.fixed.items()}
    if study.fidelity and study.is_scheduled:
        flat |= {f"fidelity.{k}": value for k, value in study.fidelity.to_record().items() if k != "disk_gb"}
    return flat | {f"space.{name}": dimension_record(dimension) for name, dimension in study.space.items()}
