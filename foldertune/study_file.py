"""Reads a study from a TOML file or from study.json. `studies/quickstart.toml` shows every part of the format.

This file does not check what depends on the strategy: `strategies.load` reads a file and checks that too.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from foldertune.budget import KEYS, read_budget
from foldertune.changes import CHANGES, read_changes
from foldertune.confirm import read_confirm
from foldertune.errors import StudyError, did_you_mean
from foldertune.fidelity import SCHEDULES, Fidelity
from foldertune.metrics import read_metrics
from foldertune.nesting import DOT, clash, flatten, nest
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE, STUDIES, shipped_studies
from foldertune.space import is_table_of_dimensions, is_table_of_values
from foldertune.space_file import SpaceReader
from foldertune.stopping import read_stopping
from foldertune.study import SCALES, SEED, Quantity, Study, label_of
from foldertune.warm_start import read_before, read_first, read_known

_KEYS = (
    "description", "objective", "program", "strategy", "trials", "repeats", "seed", "metric", "direction", "collapsed",
    "budget", "fixed", "space", "constraints", "fidelity", "metrics", "derived", "stopping",
    "first", "before", "confirm",
)  # fmt: skip
_ABOVE = ("description", "objective", "program", "strategy", "trials", "repeats", "metric", "direction", "collapsed")
_FIDELITY_KEYS = ("setting", "lowest", "highest", "factor", "schedule", "disk_gb")
_QUANTITY_KEYS = ("label", "unit", "scale")


def load_study(name_or_path: str, objective: str = DEFAULT_OBJECTIVE) -> Study:
    """The study with this name in studies/, or in this TOML file. Raises StudyError.

    Args:
        objective: for a study that names none.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        path = STUDIES / f"{name_or_path}.toml"
    try:
        record = tomllib.loads(
            path.read_bytes().decode("utf-8-sig")
        )  # some editors begin a file with a byte-order mark
    except FileNotFoundError:
        known = shipped_studies()
        raise StudyError(
            f"{name_or_path}: no such study{did_you_mean(name_or_path, known)}; "
            f"give a TOML file or one of {', '.join(known)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise StudyError(f"{path}: has too many lists or tables inside of each other") from None
    except OSError as error:
        raise StudyError(f"{path}: can't be read: {error.strerror}") from None
    if "name" in record:
        raise StudyError(f"{path}: unknown key 'name': a study's name is its file's; remove the key")
    return study_from_record({"objective": objective, **record, "name": path.stem}, str(path))


def study_from_record(record: dict[str, Any], source: str) -> Study:
    """The study that a TOML file or study.json describes. Raises StudyError, naming `source` and the key."""
    reader = _Reader(record, source)
    reader.refuse_unknown(
        {key: value for key, value in record.items() if key not in ("known", "why", CHANGES)}, ("name", *_KEYS)
    )
    reader.refuse_misplaced()
    told = reader.settings("space", is_table_of_dimensions)
    space = {key: reader.dimension(f"space.{key}", value) for key, value in told.items()}
    if not space:
        reader.fail("space", "is empty: nothing to search; add a hyperparameter, such as width = [16, 32]")
    fixed = {
        key: reader.scalar(f"fixed.{key}", value) for key, value in reader.settings("fixed", is_table_of_values).items()
    }
    for key in space:
        if key in fixed:
            reader.fail(f"fixed.{key}", "is in [space] as well; remove it from one of them")
    settings = (*space, *fixed, SEED)
    if found := clash(settings):
        inner, outer = found
        table = "space" if inner in space else "fixed"
        reader.fail(f"{table}.{inner}", f"'{outer}' is a setting, so it can't be a table as well; rename one of them")
    space = reader.with_conditions(space, told, fixed)
    changes = read_changes(record.get(CHANGES, []), reader.fail)
    derived, quantities = reader.derived(settings)
    trials, budget = read_budget(record, reader.fail)
    metrics = {key: reader.quantity(f"metrics.{key}", key, value) for key, value in reader.table("metrics").items()}
    for key in metrics:
        if key in derived:
            reader.fail(f"metrics.{key}", "is in [derived] as well; label, unit and scale belong there")
    first_metric, *others = read_metrics(record, reader.fail)
    collapsed = reader.text("collapsed") if "collapsed" in record else None
    if collapsed is not None:
        reader.expression("collapsed", collapsed, settings)
    return Study(
        name=reader.text("name", "study"),
        strategy=reader.text("strategy", example='"random"'),
        trials=trials,
        budget=budget,
        metric=first_metric.name,
        direction=first_metric.direction,
        description=reader.text("description", "").strip(),
        objective=reader.objective(),
        repeats=reader.integer("repeats", 1, low=1),
        seed=reader.integer("seed", 0),
        fixed=fixed,
        space=space,
        constraints=reader.constraints((*space, *fixed)),
        quantities={**metrics, **quantities},
        derived=derived,
        collapsed=collapsed,
        program=reader.text("program") if "program" in record else None,
        fidelity=reader.fidelity((*space, *fixed)) if "fidelity" in record else None,
        first=read_first(reader, record.get("first", []), space, fixed, has_changed=bool(changes)),
        known=read_known(reader, record.get("known", []), space, 1 + len(others), has_changed=bool(changes)),
        stopping=read_stopping(record.get("stopping", {}), reader.fail),
        before=read_before(reader, reader.table("before"), space, fixed),
        changes=changes,
        confirm=read_confirm(record.get("confirm"), reader.fail),
        others=tuple(others),
        why=reader.text("why") if "why" in record else None,
    )


class _Reader(SpaceReader):
    """Reads all parts of a definition."""

    def refuse_unknown(self, record: dict[str, Any], known: tuple[str, ...]) -> None:
        for key in record:
            if key not in known:
                raise StudyError(
                    f"{self.source}: unknown key '{key}'{did_you_mean(key, known)}; known: {', '.join(known[1:])}"
                )

    def refuse_misplaced(self) -> None:
        """Refuse a key that belongs above all tables and stands below one: in TOML it is a part of that table."""
        for table, own in (
            ("budget", KEYS),
            ("fidelity", ()),
            ("stopping", ()),
            ("confirm", ("repeats",)),
            ("space", ()),
        ):
            for key, value in self._under(table):
                if key in _ABOVE and key not in own and not (table == "space" and isinstance(value, list | dict)):
                    self.fail(
                        f"{table}.{key}", f"stands below [{table}], so it belongs to that; move it above all tables"
                    )
        for key, _ in self._under("fixed"):
            if key in ("strategy", "metric") and key not in self.record:
                self.fail(f"fixed.{key}", f"stands below [fixed], and the study has no {key}; move it above all tables")

    def _under(self, table: str) -> Iterable[tuple[str, Any]]:
        value = self.record.get(table)
        return value.items() if isinstance(value, dict) else ()

    def table(self, key: str) -> dict[str, Any]:
        value = self.record.get(key, {})
        return value if isinstance(value, dict) else self.fail(key, f"must be a table, [{key}], not {value!r}")

    def settings(self, key: str, is_table: Callable[[Any], bool]) -> dict[str, Any]:
        """The values in [space] or [fixed], and in the tables inside, by dotted names such as `model.width`."""
        try:
            flat = flatten(nest(self.table(key)), is_table)  # "a.b" and b in [a] are the same
        except ValueError as error:
            self.fail(key, f"{error}; remove one of them")
        except RecursionError:
            self.fail(key, "has too many tables inside of tables")
        for name in flat:
            if not all(name.split(DOT)):
                self.fail(f"{key}.{name}", "a part of this name is empty; a dot in a name stands for a table")
        return flat

    def text(self, key: str, default: str | None = None, example: str = "") -> str:
        value = self.record.get(key, default)
        if value is None:
            self.fail(key, f"is missing; add {key} = {example}")
        return value if isinstance(value, str) else self.fail(key, f"must be text in quotes, not {value!r}")

    def choice(self, key: str, value: Any, choices: Iterable[str]) -> str:
        if value not in choices:
            known = " or ".join(f'"{choice}"' for choice in choices)
            self.fail(key, f"must be {known}, not {value!r}")
        return str(value)

    def objective(self) -> str:
        name = self.text("objective", DEFAULT_OBJECTIVE)
        if not all(name.partition(":")) and name != COMMAND_OBJECTIVE:
            known = f'"MODULE:FUNCTION", such as "{DEFAULT_OBJECTIVE}", or "{COMMAND_OBJECTIVE}"'
            self.fail("objective", f"must be {known}, not {name!r}")
        return name

    def integer(self, key: str, default: int | None = None, low: int | None = None) -> int:
        value = self.record.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(key, f"must be a whole number, not {value!r}")
        if low is not None and value < low:
            self.fail(key, f"must be at least {low}, not {value}")
        return int(value)

    def fidelity(self, settings: tuple[str, ...]) -> Fidelity:
        """The setting that says how long a trial trains, and which trials go on to train longer."""
        table = self.table("fidelity")
        self.parts("fidelity", table, _FIDELITY_KEYS, "a fidelity")
        setting = table.get("setting")
        if not isinstance(setting, str):
            self.fail("fidelity.setting", f'must be the name of a setting in quotes, such as "epochs", not {setting!r}')
        if "highest" not in table:
            for key in ("factor", "schedule", "disk_gb"):
                if key in table:
                    self.fail(f"fidelity.{key}", "needs 'highest', the value of a whole training; add it")
            lowest = table.get("lowest", 2)
            if not isinstance(lowest, int) or isinstance(lowest, bool) or lowest < 1:
                self.fail("fidelity.lowest", f"must be a whole number of at least 1, not {lowest!r}")
            return Fidelity(setting, lowest)
        if setting in settings:
            where = "[space] or [fixed]"
            self.fail("fidelity.highest", f"says how long '{setting}' is at most, so remove '{setting}' from {where}")
        lowest, highest = (self.positive(f"fidelity.{key}", table.get(key, 2)) for key in ("lowest", "highest"))
        if highest <= lowest:
            self.fail("fidelity.highest", f"must be above lowest, which is {lowest}, not {highest}")
        factor = table.get("factor", 3)
        if not isinstance(factor, int) or isinstance(factor, bool) or factor < 2:
            self.fail("fidelity.factor", f"must be a whole number of at least 2, not {factor!r}")
        schedule = self.choice("fidelity.schedule", table.get("schedule", Fidelity.schedule), SCHEDULES)
        disk_gb = self.positive("fidelity.disk_gb", table.get("disk_gb", Fidelity.disk_gb))
        return Fidelity(setting, lowest, highest, factor, schedule, disk_gb)

    def positive(self, key: str, value: Any) -> float:
        """A finite number above 0."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            self.fail(key, f"must be a number above 0, not {value!r}")
        return value

    # ------------------------------------------------------------ metrics and derived quantities

    def quantity(self, key: str, name: str, value: Any) -> Quantity:
        """The label, unit and scale that a table gives to a metric or a derived quantity."""
        if not isinstance(value, dict):
            example = '{ label = "validation loss", unit = "s", scale = "log" }'
            self.fail(key, f"must be a table such as {example}, not {value!r}")
        self.parts(key, value, _QUANTITY_KEYS, "a metric")
        for part in ("label", "unit"):
            if not isinstance(value.get(part, ""), str):
                self.fail(key, f"{part} must be text in quotes, not {value[part]!r}")
        scale = self.choice(f"{key}.scale", value.get("scale", "auto"), SCALES)
        return Quantity(value.get("label") or label_of(name), value.get("unit", ""), scale)

    def derived(self, settings: tuple[str, ...]) -> tuple[dict[str, str], dict[str, Quantity]]:
        """The expressions in [derived], and the label, unit and scale of those that have any."""
        expressions: dict[str, str] = {}
        quantities: dict[str, Quantity] = {}
        table = self.table("derived")
        for name, value in table.items():
            key = f"derived.{name}"
            if name in settings:
                self.fail(key, "is the name of a setting; choose another")
            if isinstance(value, dict):
                self.parts(key, value, ("value", *_QUANTITY_KEYS), "a derived quantity")
                quantities[name] = self.quantity(key, name, {k: part for k, part in value.items() if k != "value"})
                value = value.get("value")
            if not isinstance(value, str):
                self.fail(key, f'its value must be an expression in quotes, such as "1 - accuracy", not {value!r}')
            for used in self.expression(key, value, settings):
                if used in table and used not in expressions:
                    self.fail(key, f"uses '{used}', which is not derived yet; put it below '{used}'")
            expressions[name] = value.strip()
        return expressions, quantities
