"""Reads the search space from a study's definition: ranges, lists of values, conditions and constraints."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NoReturn

from foldertune.derived import names_in
from foldertune.errors import StudyError, did_you_mean
from foldertune.nesting import DOT, clash
from foldertune.space import Categorical, Conditions, Dimension, Float, Int, Space, identity

LARGEST = 1e300  # of a bound; with larger ones, floats overflow
DEEPEST = 20  # lists and tables inside of each other, in a choice
MOST_STEPS = 10**9  # of a range
NULL = {"null": True}  # how TOML, which has no null, writes it as a choice
_DIMENSION_KEYS = {
    "float": ("type", "low", "high", "log", "step", "when", "guess"),
    "int": ("type", "low", "high", "log", "step", "when", "guess"),
    "categorical": ("type", "choices", "ordered", "when", "guess"),
}
_Scalar = int | float | str | bool


@dataclass
class SpaceReader:
    """Reads values from a definition. Each StudyError names the file and the key, and says what to do."""

    record: dict[str, Any]
    source: str

    def fail(self, key: str, complaint: str) -> NoReturn:
        """Refuse the definition because of this key."""
        raise StudyError(f"{self.source}: {key}: {complaint}")

    def parts(self, key: str, value: dict[str, Any], known: tuple[str, ...], of: str) -> None:
        """Refuse unknown keys in an inline table."""
        for part in value:
            if part not in known:
                self.fail(key, f"unknown key '{part}'{did_you_mean(part, known)}; known for {of}: {', '.join(known)}")

    def scalar(self, key: str, value: Any) -> Any:
        """One number, text or true/false."""
        if not isinstance(value, _Scalar):
            self.fail(key, f"must be one number, text or true/false, not {value!r}; lists and ranges belong in [space]")
        if isinstance(value, float) and not math.isfinite(value):
            self.fail(key, f"must be finite, not {value}")
        if isinstance(value, int) and abs(value) >= 2**63:
            self.fail(key, "must have at most 63 bits; write a larger number as text")
        return value

    def truth(self, key: str, part: str, value: Any) -> bool:
        """A part that is true or false."""
        return value if isinstance(value, bool) else self.fail(key, f"{part} must be true or false, not {value!r}")

    # ------------------------------------------------------------ values

    def dimension(self, key: str, value: Any) -> Dimension:
        """A range, or a list of values. Its condition is read later, when all settings are known."""
        example = 'a list of values, or { type = "float", low = 0.01, high = 0.3, log = true }'
        if isinstance(value, list):
            value = {"type": "categorical", "choices": value}
        if not isinstance(value, dict):
            self.fail(key, f"must be {example}, not {value!r}; a value that never changes belongs in [fixed]")
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in _DIMENSION_KEYS:
            self.fail(key, f'its type must be "float", "int" or "categorical", not {kind!r}; write {example}')
        self.parts(key, value, _DIMENSION_KEYS[kind], kind)
        read = self._categorical(key, value) if kind == "categorical" else self._range(key, kind, value)
        return replace(read, guess=self._guess(key, value["guess"], read)) if "guess" in value else read

    def _guess(self, key: str, value: Any, dimension: Dimension) -> tuple[Any]:
        guess = self.choice_of(key, value)
        if not dimension.contains(guess):
            of = "choices" if isinstance(dimension, Categorical) else f"values from {dimension.low} to {dimension.high}"
            step = "" if isinstance(dimension, Categorical) or not dimension.step else f" in steps of {dimension.step}"
            self.fail(key, f"guess must be one of its {of}{step}, not {guess!r}")
        return (float(guess) if isinstance(dimension, Float) else guess,)

    def _categorical(self, key: str, value: dict[str, Any]) -> Categorical:
        choices = value.get("choices")
        if not isinstance(choices, list):
            self.fail(key, f"choices must be a list, not {choices!r}")
        if not choices:
            self.fail(key, "the list of values is empty; give at least one")
        read = tuple(self.choice_of(key, choice) for choice in choices)
        if len(set(map(identity, read))) < len(read):
            self.fail(key, f"a value stands twice in {choices}; remove one (a grid's 'repeats' tries each more often)")
        return Categorical(read, self.truth(key, "ordered", value.get("ordered", False)))

    def choice_of(self, key: str, value: Any, depth: int = 0) -> Any:
        """A value as JSON has it; `{ null = true }` is null."""
        if depth > DEEPEST:
            self.fail(key, f"a value has more than {DEEPEST} lists or tables inside of each other; write it as text")
        if value is None or identity(value) == identity(NULL):
            return None
        if isinstance(value, list):
            return [self.choice_of(key, item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {name: self.choice_of(key, item, depth + 1) for name, item in value.items()}
        if not isinstance(value, _Scalar):
            self.fail(key, f"{value!r} is no value that JSON has; write it as text")
        return self.scalar(key, value)

    def _range(self, key: str, kind: str, value: dict[str, Any]) -> Float | Int:
        for part in ("low", "high"):
            if value.get(part) is None:
                self.fail(key, f"{part} is missing")
        low, high = (self._number(key, kind, part, value[part]) for part in ("low", "high"))
        log = self.truth(key, "log", value.get("log", False))
        if low >= high:
            self.fail(key, f"the range is empty: low ({low}) must be below high ({high})")
        if log and low <= 0:
            self.fail(key, f"low must be above 0 on a log scale, not {low}")
        step = self._step(key, kind, value, low, high) if "step" in value else None
        if kind == "int":
            return Int(low, high, log, step)
        return Float(float(low), float(high), log, None if step is None else float(step))

    def _number(self, key: str, kind: str, part: str, value: Any) -> Any:
        number = int if kind == "int" else int | float
        if not isinstance(value, number) or isinstance(value, bool) or not -LARGEST < value < LARGEST:
            wanted = "a whole number" if kind == "int" else "a finite number"
            self.fail(key, f"{part} must be {wanted}, not {value!r}")
        return value

    def _step(self, key: str, kind: str, value: dict[str, Any], low: Any, high: Any) -> Any:
        step = self._number(key, kind, "step", value["step"])
        if value.get("log"):
            self.fail(key, "has a step and a log scale; remove one, or list the values")
        if step <= 0:
            self.fail(key, f"step must be above 0, not {step}")
        exact = [Fraction(repr(number)) for number in (low, high, step)]
        count = (exact[1] - exact[0]) / exact[2]
        if count > MOST_STEPS:
            self.fail(key, f"has more than {MOST_STEPS:,} steps; leave out step, or make it larger")
        if count.denominator > 1:
            last = exact[0] + exact[2] * math.floor(count)
            wanted = f"high = {type(high)(last)}" if count > 1 else "a smaller step"
            self.fail(key, f"no step ends at high ({high}); write {wanted}")
        return step

    # ------------------------------------------------------------ conditions and constraints

    def with_conditions(
        self, space: dict[str, Dimension], told: Mapping[str, Any], fixed: Mapping[str, Any]
    ) -> dict[str, Dimension]:
        """The space with the conditions that `when` gives to hyperparameters.

        Args:
            told: what the definition says about each hyperparameter.
        """
        known: dict[str, Any] = {**fixed, **space}
        whens = {name: value["when"] for name, value in told.items() if isinstance(value, dict) and "when" in value}
        found = {
            name: replace(space[name], when=self._conditions(f"space.{name}", when, known))
            for name, when in whens.items()
        }
        for name in found:
            if circle := _circle(name, found):
                self.fail(f"space.{name}", f"its condition depends on itself: {' needs '.join(circle)}; remove one")
        return {**space, **found}

    def _conditions(self, key: str, when: Any, known: Mapping[str, Any]) -> Conditions:
        example = 'when = { optimizer = "sgd" }'
        if not isinstance(when, dict) or not when:
            self.fail(key, f"when must be a table of settings with one value or a list of them: {example}")
        conditions: dict[str, tuple[Any, ...]] = {}
        for name, values in _by_names(when, known):
            if name not in known:
                self.fail(key, f"when names '{name}', which is no setting of this study{did_you_mean(name, known)}")
            if not values:
                self.fail(key, f"when gives no value for '{name}'; write one, or a list of them: {example}")
            conditions[name] = read = tuple(self.choice_of(key, value) for value in values)
            for value in read:
                if not _may_be(known[name], value):
                    self.fail(key, f"when: '{name}' is never {value!r}; write a value that it may have")
        return conditions

    def constraints(self, settings: Collection[str]) -> tuple[str, ...]:
        """The expressions that all settings must meet."""
        listed = self.record.get("constraints", [])
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            self.fail("constraints", 'must be a list of expressions in quotes, such as ["width * depth <= 800"]')
        for text in listed:
            for name in self.expression("constraints", text, settings):
                if name not in settings:
                    hint = did_you_mean(name, settings)
                    self.fail("constraints", f"\"{text}\" names '{name}', which is no setting of this study{hint}")
        return tuple(text.strip() for text in listed)

    def expression(self, key: str, text: str, settings: Iterable[str]) -> set[str]:
        """The names in an expression. Raises StudyError if it is not valid."""
        try:
            names = names_in(text.strip())
        except ValueError as error:
            self.fail(key, f'"{text}" {error}')
        for name in names:
            if found := clash((name, *settings)):
                self.fail(key, f"\"{text}\" names '{name}', but the setting '{found[1]}' is no table")
        return names


def _by_names(when: Mapping[str, Any], known: Mapping[str, Any], outer: str = "") -> Iterable[tuple[str, list[Any]]]:
    """The settings that a condition names, by dotted names, each with the list of its values."""
    for part, value in when.items():
        name = outer + part
        if name not in known and isinstance(value, dict) and value:
            yield from _by_names(value, known, name + DOT)
        else:
            yield name, value if isinstance(value, list) else [value]


def _may_be(setting: Any, value: Any) -> bool:
    """Can a setting have this value? A person may change a fixed one to any."""
    return not isinstance(setting, Dimension) or setting.contains(value)


def _circle(name: str, space: Space) -> list[str] | None:
    """The way from a hyperparameter along conditions back to itself; None if there is none."""
    ways = [[name]]
    for way in ways:  # which grows
        for needed in space[way[-1]].when if way[-1] in space else ():
            if needed == name:
                return [*way, name]
            if needed not in way:
                ways.append([*way, needed])
    return None
