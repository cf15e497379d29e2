"""What changes between a study in a folder and the same study with another file: in words, and what can't change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from foldertune.changes import PARTS
from foldertune.definitions import definition
from foldertune.errors import StudyError
from foldertune.space import Categorical, Dimension, dimension_record, identity
from foldertune.study import Study
from foldertune.study_file import study_from_record

_KEPT = ("name", "objective", "metric", "direction", "seed", "trials")  # with `PARTS`, all that a strategy looks at
_WHY_NOT = {
    "objective": "results of other training code can't be compared",
    "metric": "results are compared by it",
    "direction": "results are compared by it",
    "seed": "trial 7 is a function of it",
    "fidelity.setting": "it says how long each trial was trained",
}
_RANGE = ("low", "high", "log", "step")


def parts_of(study: Study) -> dict[str, Any]:
    """The parts of its definition that a change may change."""
    return {key: value for key, value in study.to_record().items() if key in PARTS}


def before_last_change(study: Study) -> Study:
    """The study as it was before its last change, as far as the settings of its trials depend on it."""
    *earlier, last = study.changes
    record = {key: value for key, value in study.to_record().items() if key in _KEPT}
    old = study_from_record({**record, **last.was}, f"{study.name}, changes")
    return replace(old, first=study.first, changes=tuple(earlier))


# ---------------------------------------------------------------- in words


def differences_in_words(old: Study, new: Study, source: str) -> list[str]:
    """A line about each difference. Raises StudyError, naming `source` and the key, if something can't be changed."""
    _refuse_others(old, new, source)
    return [
        *_told_of_space(old, new, source),
        *_told_of_fixed(old, new, source),
        *_told_of_fidelity(old, new),
        *_told_of_lists("constraint", old.constraints, new.constraints),
        *([f"strategy: {old.strategy} becomes {new.strategy}"] if old.strategy != new.strategy else []),
        *(
            f"{name}: trials without it have {_say(value)}, not {_say(old.before[name])}"
            for name, value in new.before.items()
            if name in old.before and identity(value) != identity(old.before[name])
        ),
    ]


def _refuse_others(old: Study, new: Study, source: str) -> None:
    a, b = definition(old), definition(new)
    for key in dict.fromkeys([*a, *b]):
        may = key in PARTS or key.partition(".")[0] in PARTS
        if key == "fidelity.setting":
            may = key not in a or key not in b
        if not may and identity(a.get(key)) != identity(b.get(key)):
            why = _WHY_NOT.get(key, "it makes this study what it is")
            _fail(source, key, f"can't become {_say(b.get(key))}, because {why}; use another --logs")


def _told_of_space(old: Study, new: Study, source: str) -> Iterator[str]:
    for name in dict.fromkeys([*old.space, *new.space]):
        a, b = old.space.get(name), new.space.get(name)
        if a is not None and b is not None:
            if type(a) is not type(b):
                _fail(source, f"space.{name}", f"can't become {_kind(b)}, it is {_kind(a)}; give it another name")
            yield from _told_of_dimension(name, a, b)
        elif b is None:
            if name not in new.fixed:
                _fail(source, f"space.{name}", "can't go; write the value that it has from now on into [fixed]")
            yield f"{name}: fixed at {_say(new.fixed[name])} from now on; earlier trials keep their values"
        elif name in old.fixed:
            yield f"{name}: fixed at {_say(old.fixed[name])} until now, becomes {_range(b)}"
        else:
            yield f"{name}: new, {_range(b)}{_for_earlier(new, name)}"


def _told_of_dimension(name: str, a: Dimension, b: Dimension) -> Iterator[str]:
    if isinstance(a, Categorical) and isinstance(b, Categorical):
        told = list(_told_of_lists(f"{name}: choice", a.choices, b.choices))
        yield from told
        if not told and identity(a.choices) != identity(b.choices):
            yield f"{name}: its choices in another order"
    elif any(getattr(a, key) != getattr(b, key) for key in _RANGE):
        yield f"{name}: {_range(a)} becomes {_range(b)}"
    more = (_more(a), _more(b))
    for key in dict.fromkeys([*more[0], *more[1]]):
        before, after = (_say(each[key]) if key in each else "none" for each in more)
        if before != after:
            yield f"{name}: {key} {before} becomes {after}"


def _told_of_fixed(old: Study, new: Study, source: str) -> Iterator[str]:
    for name in dict.fromkeys([*old.fixed, *new.fixed]):
        if name in old.fixed and name in new.fixed:
            if identity(old.fixed[name]) != identity(new.fixed[name]):
                yield f"{name}: {_say(old.fixed[name])} becomes {_say(new.fixed[name])}"
        elif name in old.fixed and name not in new.searched:
            _fail(source, f"fixed.{name}", f"can't go; keep {name} = {_say(old.fixed[name])}, or give another value")
        elif name in new.fixed and name not in old.searched:
            yield f"{name}: new, fixed at {_say(new.fixed[name])}{_for_earlier(new, name)}"


def _told_of_fidelity(old: Study, new: Study) -> Iterator[str]:
    a, b = (study.fidelity.to_record() if study.fidelity and study.is_scheduled else {} for study in (old, new))
    if bool(a) != bool(b):
        unit = (b or a)["setting"]
        yield f"{unit}: the schedule {b['schedule']} begins" if b else f"{unit}: no schedule any more"
        return
    for key in b:
        if a[key] != b[key] and key != "disk_gb":
            yield f"fidelity.{key}: {_say(a[key])} becomes {_say(b[key])}"


def _told_of_lists(what: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[str]:
    """The items that were added or removed, in one line each: `kind: choices a, b added`."""
    for items, others, done in ((new, old, "added"), (old, new, "removed")):
        there = set(map(identity, others))
        if found := [_say(item) for item in items if identity(item) not in there]:
            yield f"{what}{'s' * (len(found) > 1)} {', '.join(found)} {done}"


def _for_earlier(study: Study, name: str) -> str:
    return f"; earlier trials have {_say(study.before[name])}" if name in study.before else ""


def _kind(dimension: Dimension) -> str:
    kind = type(dimension).__name__.lower()
    return "a list of values" if isinstance(dimension, Categorical) else f'a range of type "{kind}"'


def _range(dimension: Dimension) -> str:
    if isinstance(dimension, Categorical):
        return ", ".join(map(_say, dimension.choices))
    step = "" if dimension.step is None else f" in steps of {_say(dimension.step)}"
    return f"{_say(dimension.low)}–{_say(dimension.high)}{step}{' (log)' * dimension.log}"


def _more(dimension: Dimension) -> Mapping[str, Any]:
    """What is said of a hyperparameter besides its values, such as its condition."""
    record = dimension_record(dimension)
    kept = record.items() if isinstance(record, dict) else ()
    return {key: value for key, value in kept if key not in ("type", "choices", *_RANGE)}


def _say(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fail(source: str, key: str, complaint: str) -> NoReturn:
    raise StudyError(f"{source}: {key}: {complaint}")
