"""A study: what is searched, how, and how much of it. Read from a TOML file; kept in the folder as study.json.

`studies/quickstart.toml` shows every part of the format.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from foldertune.command_line import did_you_mean
from foldertune.strategies import STRATEGIES, Categorical, Float, Hyperparameter, Int, grid_size

STUDIES = Path(__file__).resolve().parent.parent / "studies"
DEFAULT_OBJECTIVE = "exercise3:train"
SEED = "seed"  # every trial has this setting, its own unless the study fixes it
_DIMENSION_KEYS = {
    "float": ("type", "low", "high", "log"),
    "int": ("type", "low", "high", "log"),
    "categorical": ("type", "choices"),
}
LARGEST = 1e300  # of a bound: beyond, floats overflow
_Scalar = int | float | str | bool


class StudyError(Exception):
    """A study file says something that can't be searched. The message names file, key and remedy."""


@dataclass(frozen=True)
class Study:
    """One search: settings of trial k depend on this and k only."""

    name: str
    strategy: str
    trials: int  # the budget: this many results, exactly
    metric: str
    direction: str = "minimize"
    description: str = ""
    objective: str = DEFAULT_OBJECTIVE
    repeats: int = 1
    seed: int = 0
    fixed: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Hyperparameter] = field(default_factory=dict)

    def settings(self, number: int) -> dict[str, Any]:
        """The settings of trial `number`: the strategy's, the fixed ones, and a seed for the training."""
        rng = Random(f"{self.seed}/{number}")
        seed = rng.randrange(2**31)
        return {**STRATEGIES[self.strategy](self.space, number, rng), **{SEED: seed}, **self.fixed}

    def contains(self, settings: Mapping[str, Any]) -> bool:
        """Could a trial of this study have these settings? One queued by hand may have others."""
        missing = object()
        fixed = all(settings.get(key, missing) == value for key, value in self.fixed.items())
        return fixed and all(key in settings and d.contains(settings[key]) for key, d in self.space.items())

    def is_better(self, value: float, other: float) -> bool:
        """Is one value of the metric better than another?"""
        return value < other if self.direction == "minimize" else value > other

    def with_trials(self, trials: int | None, seed: int | None, source: str, repeats: int | None = None) -> Study:
        """The study as the command line changes it. Raises StudyError."""
        study = self if seed is None else replace(self, seed=seed)
        if repeats is not None:
            if repeats < 1:
                raise StudyError("--repeats: must be at least 1")
            if self.strategy != "grid":
                raise StudyError(f"--repeats {repeats}: belongs to a grid, and {source} is none; use --trials for more")
            study = replace(study, repeats=repeats, trials=grid_size(self.space) * repeats)
        if trials is None:
            return study
        if trials < 1:
            raise StudyError("--trials: must be at least 1")
        if study.strategy == "grid" and trials > study.trials:
            raise StudyError(
                f"--trials {trials}: the grid in {source} has {study.trials} trials, repeats included; "
                f"raise 'repeats' for more, or use --repeats"
            )
        return replace(study, trials=trials)

    def to_record(self) -> dict[str, Any]:
        """The definition as it stands in study.json."""
        record = {key: getattr(self, key) for key in _KEYS if key not in ("fixed", "space")}
        return {
            "name": self.name,
            **record,
            "fixed": self.fixed,
            "space": {k: _dimension_record(d) for k, d in self.space.items()},
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], source: str) -> Study:
        """The study that a TOML file or study.json describes. Raises StudyError, naming `source` and the key."""
        reader = _Reader(record, source)
        reader.refuse_unknown(("name", *_KEYS))
        strategy = reader.choice("strategy", tuple(STRATEGIES))
        fixed = {key: reader.scalar(f"fixed.{key}", value) for key, value in reader.table("fixed").items()}
        space = {key: reader.dimension(f"space.{key}", value, strategy) for key, value in reader.table("space").items()}
        if not space:
            reader.fail(
                "space", "is empty: nothing to search; add a hyperparameter, such as learning_rate = [0.01, 0.1]"
            )
        for key in space:
            if key in fixed:
                reader.fail(f"fixed.{key}", "is in [space] as well; remove it from one of them")
        repeats = reader.integer("repeats", 1, low=1)
        if strategy != "grid" and "repeats" in record and repeats != 1:
            reader.fail("repeats", "belongs to strategy \"grid\"; for more random trials raise 'trials'")
        size = grid_size(space) * repeats if strategy == "grid" else None
        return cls(
            name=reader.string("name", "study"),
            strategy=strategy,
            trials=reader.integer("trials", size, low=1, high=size, why="the grid with its repeats has no more"),
            metric=reader.string("metric", "validation_error"),
            direction=reader.choice("direction", ("minimize", "maximize"), "minimize"),
            description=reader.string("description", "").strip(),
            objective=reader.string("objective", DEFAULT_OBJECTIVE),
            repeats=repeats,
            seed=reader.integer("seed", 0),
            fixed=fixed,
            space=space,
        )


_KEYS = ("description", "objective", "strategy", "trials", "repeats", "seed", "metric", "direction", "fixed", "space")


def load_study(name_or_path: str) -> Study:
    """The study of that name in studies/, or in that TOML file. Raises StudyError."""
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        path = STUDIES / f"{name_or_path}.toml"
    try:
        with open(path, "rb") as file:
            record = tomllib.load(file)
    except FileNotFoundError:
        known = sorted(file.stem for file in STUDIES.glob("*.toml"))
        raise StudyError(
            f"{name_or_path}: no such study{did_you_mean(name_or_path, known)}; "
            f"give a TOML file or one of {', '.join(known)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise StudyError(f"{path}: can't be read: {error.strerror}") from None
    if "name" in record:
        raise StudyError(f"{path}: unknown key 'name': a study's name is its file's; remove the key")
    return Study.from_record({**record, "name": path.stem}, str(path))


def differences(old: Study, new: Study) -> list[str]:
    """What makes these two different searches, a phrase each. Name, description and budget do not."""
    a, b = _flat(old.to_record()), _flat(new.to_record())
    keys = dict.fromkeys([*a, *b])
    missing = "not there"
    return [
        f"{key} ({a.get(key, missing)} in the folder, now {b.get(key, missing)})"
        for key in keys
        if a.get(key, missing) != b.get(key, missing)
    ]


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    skipped = ("name", "description", "trials", "repeats")
    flat = {key: value for key, value in record.items() if key not in (*skipped, "fixed", "space")}
    for table in ("fixed", "space"):
        flat |= {f"{table}.{key}": value for key, value in record[table].items()}
    return flat


def _dimension_record(dimension: Hyperparameter) -> Any:
    if isinstance(dimension, Categorical):
        return list(dimension.choices)
    return {
        "type": type(dimension).__name__.lower(),
        "low": dimension.low,
        "high": dimension.high,
        "log": dimension.log,
    }


@dataclass
class _Reader:
    """Reads values out of a definition; every complaint names the file, the key and the remedy."""

    record: dict[str, Any]
    source: str

    def fail(self, key: str, complaint: str) -> NoReturn:
        raise StudyError(f"{self.source}: {key}: {complaint}")

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self.record:
            if key not in known:
                raise StudyError(
                    f"{self.source}: unknown key '{key}'{did_you_mean(key, known)}; known: {', '.join(known[1:])}"
                )

    def table(self, key: str) -> dict[str, Any]:
        value = self.record.get(key, {})
        return value if isinstance(value, dict) else self.fail(key, f"must be a table, [{key}], not {value!r}")

    def string(self, key: str, default: str) -> str:
        value = self.record.get(key, default)
        return value if isinstance(value, str) else self.fail(key, f"must be text in quotes, not {value!r}")

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self.record.get(key, default)
        options = " or ".join(f'"{choice}"' for choice in choices)
        if value is None:
            self.fail(key, f"is missing; add {key} = {options}")
        if value not in choices:
            self.fail(key, f"must be {options}, not {value!r}")
        return str(value)

    def integer(
        self, key: str, default: int | None, low: int | None = None, high: int | None = None, why: str = ""
    ) -> int:
        value = self.record.get(key, default)
        if value is None:
            self.fail(key, f"is missing; add {key} = 40, say")
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(key, f"must be a whole number, not {value!r}")
        if low is not None and value < low:
            self.fail(key, f"must be at least {low}, not {value}")
        if high is not None and value > high:
            self.fail(key, f"must be at most {high} ({why}), not {value}")
        return int(value)

    def scalar(self, key: str, value: Any) -> Any:
        if not isinstance(value, _Scalar):
            self.fail(key, f"must be one number, text or true/false, not {value!r}; lists and ranges belong in [space]")
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(key, f"must be finite, not {value}")
        return value

    def dimension(self, key: str, value: Any, strategy: str) -> Hyperparameter:
        example = 'a list of values, or { type = "float", low = 0.01, high = 0.3, log = true }'
        if isinstance(value, list):
            value = {"type": "categorical", "choices": value}
        if not isinstance(value, dict):
            self.fail(key, f"must be {example}, not {value!r}; a value that never changes belongs in [fixed]")
        kind = value.get("type")
        if kind not in _DIMENSION_KEYS:
            self.fail(key, f'its type must be "float", "int" or "categorical", not {kind!r}; write {example}')
        for part in value:
            if part not in _DIMENSION_KEYS[kind]:
                known = _DIMENSION_KEYS[kind]
                self.fail(key, f"unknown key '{part}'{did_you_mean(part, known)}; known for {kind}: {', '.join(known)}")
        if kind == "categorical":
            return self._categorical(key, value)
        if strategy == "grid":
            self.fail(
                key,
                f"a grid needs the values themselves, not a range: a list such as "
                f"[{value.get('low', 1)}, {value.get('high', 2)}]",
            )
        return self._range(key, kind, value)

    def _categorical(self, key: str, value: dict[str, Any]) -> Categorical:
        choices = value.get("choices")
        if not isinstance(choices, list):
            self.fail(key, f"choices must be a list, not {choices!r}")
        if not choices:
            self.fail(key, "the list of values is empty; give at least one")
        if len({(type(choice), choice) for choice in map(str, choices)}) < len(choices):
            self.fail(key, f"a value stands twice in {choices}; remove one (a grid's 'repeats' tries each more often)")
        return Categorical(tuple(self.scalar(key, choice) for choice in choices))

    def _range(self, key: str, kind: str, value: dict[str, Any]) -> Float | Int:
        number = int if kind == "int" else int | float
        for part in ("low", "high"):
            bound = value.get(part)
            if bound is None:
                self.fail(key, f"{part} is missing")
            if not isinstance(bound, number) or isinstance(bound, bool) or not -LARGEST < bound < LARGEST:
                wanted = "a whole number" if kind == "int" else "a finite number"
                self.fail(key, f"{part} must be {wanted}, not {bound!r}")
        low, high, log = value["low"], value["high"], value.get("log", False)
        if not isinstance(log, bool):
            self.fail(key, f"log must be true or false, not {log!r}")
        if low >= high:
            self.fail(key, f"the range is empty: low ({low}) must be below high ({high})")
        if log and low <= 0:
            self.fail(key, f"low must be above 0 on a log scale, not {low}")
        return Int(low, high, log) if kind == "int" else Float(float(low), float(high), log)
