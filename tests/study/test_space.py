"""Steps, ordered categories, values of any kind, conditions and constraints: what a study's file may say of its space."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from foldertune import derived, study
from foldertune.definitions import compare, differences
from foldertune.errors import StudyError
from foldertune.protocol import Trial, TrialName, read_records, settings_record, to_line
from foldertune.space import Float, Int
from foldertune.strategies import load as load_study
from foldertune.strategies import plan
from foldertune.study_file import study_from_record
from tests.conftest import ROOT, settings_of

EXAMPLE = re.search(r"```toml\n(# spaces\.toml\n.*?)```", (ROOT / "docs" / "objectives.md").read_text(), re.DOTALL)[1]
HEAD = 'objective = "mine:train"\nstrategy = "{strategy}"\n{trials}metric = "loss"\n'
CHAIN = """
optimizer = ["sgd", "adam"]
decay = { type = "float", low = 0.0, high = 0.5, step = 0.25, when = { optimizer = "sgd", mode = ["a", "b"] } }
warm = { choices = [0, 1], type = "categorical", when = { decay = 0.25 } }
[space.head]
kind = ["none", [8, 8]]
depth = { type = "int", low = 1, high = 7, step = 3, when = { head.kind = [[8, 8]] } }
[fixed]
mode = "a"
"""


def study_of(tmp_path, space, strategy="random", constraints=()):
    trials = "" if strategy == "grid" else "trials = 5\n"
    file = tmp_path / "mine.toml"
    limits = f"constraints = {json.dumps(constraints)}\n" if constraints else ""
    file.write_text(HEAD.format(strategy=strategy, trials=trials) + limits + "[space]\n" + space)
    return load_study(str(file))


def test_the_example_in_the_documentation_works_as_it_stands(tmp_path):
    file = tmp_path / "spaces.toml"
    file.write_text(EXAMPLE)
    study = load_study(str(file))
    seen = [settings_of(study, number) for number in range(study.trials)]
    assert all(study.contains(settings) for settings in seen) and len(study.space) == 10
    assert {None, 0.5} <= {settings["clip"] for settings in seen}
    assert 0 < sum("nesterov" in settings for settings in seen) < sum("momentum" in settings for settings in seen) < 20


def test_a_range_with_steps_has_the_numbers_that_a_person_would_write(tmp_path):
    quarter, tenth, whole = Float(0.0, 1.0, step=0.25), Float(0.1, 0.9, step=0.1), Int(1, 10, step=3)
    assert list(quarter.steps) == [0, 0.25, 0.5, 0.75, 1] and list(whole.steps) == [1, 4, 7, 10]
    assert [tenth.at((k + 0.5) / 9) for k in range(9)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert tenth.at(0.0) == 0.1 and tenth.at(1 - 2**-53) == 0.9 and whole.at(1 - 2**-53) == 10
    assert all(map(tenth.contains, tenth.steps)) and not any(map(tenth.contains, (0, 0.25, 1.0, "0.1", True)))
    assert all(map(whole.contains, whole.steps)) and not any(map(whole.contains, (2, 13, 4.0, True)))
    rng = random.Random(0)
    counts = Counter(quarter.at(rng.random()) for _ in range(5000))
    assert len(counts) == 5 and all(900 < count < 1100 for count in counts.values()), "each step is equally likely"
    grid = study_of(tmp_path, 'x = { type = "float", low = 0, high = 1, step = 0.5 }\ny = [1, 2]\n', "grid")
    assert [settings_of(grid, k)["x"] for k in range(grid.trials)] == [0, 0, 0.5, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("range_", "complaint"),
    [
        ('type = "float", low = 0.0, high = 1.0, step = 0.3', "no step ends at high (1.0); write high = 0.9"),
        ('type = "int", low = 1, high = 9, step = 3', "no step ends at high (9); write high = 7"),
        ('type = "int", low = 1, high = 9, step = 10', "no step ends at high (9); write a smaller step"),
        ('type = "int", low = 1, high = 9, step = 0.5', "step must be a whole number, not 0.5"),
        ('type = "float", low = 1, high = 9, step = 0', "step must be above 0"),
        ('type = "float", low = 1, high = 9, step = 1, log = true', "has a step and a log scale; remove one"),
        ('type = "float", low = 1, high = 9, step = 1e-12', "more than 1,000,000,000 steps"),
        ('type = "categorical", choices = [1, 2], ordered = 1', "ordered must be true or false, not 1"),
        ("choices = [1, 2], ordered = true", "its type must be"),
        ('type = "int", low = 1, high = 9, when = 3', "when must be a table of settings"),
        ('type = "int", low = 1, high = 9, when = { widht = 3 }', "names 'widht', which is no setting of this study"),
        ('type = "int", low = 1, high = 9, when = { width = 5 }', "when: 'width' is never 5"),
        ('type = "int", low = 1, high = 9, when = { width = [] }', "when gives no value for 'width'"),
        ('type = "int", low = 1, high = 9, when = { x = 5 }', "its condition depends on itself: x needs x; remove one"),
        ('type = "int", low = 1, high = 9, when = { a = 1 }', "its condition depends on itself: x needs a needs x"),
    ],
)
def test_a_bad_dimension_is_refused_by_its_name(tmp_path, range_, complaint):
    more = 'a = { type = "int", low = 1, high = 2, when = { x = 2 } }\n' if "a = 1" in range_ else ""
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, f"x = {{ {range_} }}\nwidth = [3, 4]\n{more}")
    assert "mine.toml: space.x: " in str(caught.value) and complaint in str(caught.value)


def test_a_study_comes_back_from_its_record(tmp_path):
    space = """
opt = { type = "categorical", choices = ["small", { null = true }, [1, { a = { null = true } }]], ordered = true }
x = { type = "float", low = 0.0, high = 1.0, step = 0.25, when = { opt = [{ null = true }] } }
plain = { type = "categorical", choices = [1, 2], ordered = false }
"""
    study = study_of(tmp_path, space, constraints=["x <= 0.75 "])
    assert study.space["opt"].choices == ("small", None, [1, {"a": None}]) and study.space["opt"].ordered
    record = json.loads(json.dumps(study.to_record()))
    assert study_from_record(record, "study.json") == study
    assert record["space"]["plain"] == [1, 2] and record["constraints"] == ["x <= 0.75"]
    other = study_of(tmp_path, space.replace("0.25", "0.5").replace("true, when", "true,  when"))
    assert [line.split(" (")[0] for line in differences(study, other)] == ["constraints", "space.x"]
    assert set(compare([study, other])) == {"constraints", "space.x"}


def test_a_table_stays_one_value_in_a_trial_file(tmp_path):
    settings = {"a.b": {"c.d": [None], "e": {"f": 1}}, "a.g": None, "h": [], "i": {}}
    path = tmp_path / "trial"
    path.write_bytes(to_line(settings_record(settings)))
    (record,) = read_records(str(path))
    assert record["settings"] == {"a": {"b": {"c.d": [None], "e": {"f": 1}}, "g": None}, "h": [], "i": {}}
    assert Trial.from_records(TrialName(0, 1), [record], "x").settings == settings
    strange = {"settings": {"a": {"b": 1}}, "values": {"a": 1}}  # what a person or a broken program wrote
    assert Trial.from_records(TrialName(0, 1), [strange], "x").settings == {"a.b": 1}


def test_a_setting_is_absent_unless_its_conditions_hold(tmp_path):
    study = study_of(tmp_path, CHAIN)
    seen = [settings_of(replace(study, seed=seed), 0) for seed in range(300)]
    for settings in seen:
        assert ("decay" in settings) == (settings["optimizer"] == "sgd")
        assert ("warm" in settings) == (settings.get("decay") == 0.25), "a chain"
        assert ("head.depth" in settings) == (settings["head.kind"] == [8, 8])
        assert study.contains(settings) and study.active(settings) == settings
    assert {"optimizer", "seed", "head.kind", "mode"} in [set(settings) for settings in seen]
    full = {"optimizer": "adam", "decay": 0.25, "warm": 1, "head.kind": "none", "head.depth": 4, "mode": "a"}
    assert study.active(full) == {"optimizer": "adam", "head.kind": "none", "mode": "a"}
    assert not study.contains(full) and not study.contains({**full, "optimizer": "sgd"})
    other = study_of(tmp_path, CHAIN.replace('mode = "a"', 'mode = "a"\nmore = 1').replace('"a", "b"', '"a"'))
    assert other.space["optimizer"] == study.space["optimizer"] and differences(study, other)
    never = study_of(tmp_path, CHAIN.replace('mode = "a"', 'mode = "c"'))
    assert not any("decay" in settings_of(replace(never, seed=seed), 0) for seed in range(20))


def test_conditions_change_no_other_number(tmp_path):
    plain = study_of(tmp_path, 'x = ["s", "t"]\ny = [1, 2, 3]\nz = { type = "float", low = 0, high = 1 }\n')
    lists = 'x = ["s", "t"]\ny = { type = "categorical", choices = [1, 2, 3], when = { x = "s" } }\n'
    conditional = study_of(tmp_path, lists + 'z = { type = "float", low = 0, high = 1 }\n')
    for number in range(20):
        before, after = settings_of(plain, number), settings_of(conditional, number)
        assert {**before, **after} == before and set(before) - set(after) <= {"y"}


def test_a_grid_has_each_combination_once(tmp_path):
    grid = study_of(tmp_path, CHAIN, "grid")
    tried = [settings_of(grid, number) for number in range(grid.trials)]
    shapes = [tuple(s.get(k) for k in ("optimizer", "decay", "warm")) for s in tried]
    first = [("sgd", 0.0, None), ("sgd", 0.25, 0), ("sgd", 0.25, 1), ("sgd", 0.5, None), ("adam", None, None)]
    assert list(dict.fromkeys(shapes)) == first and len(tried) == 5 * 4, "none, and [8, 8] with three depths"
    again = plan(grid, "x", repeats=2)
    assert again.trials == 40 and settings_of(again, 25)["decay"] == settings_of(grid, 5)["decay"]
    limits = ["head.depth * (1 + decay) <= 4", "optimizer != 'adam' or head.depth < 4"]
    fewer = study_of(tmp_path, CHAIN, "grid", limits)
    assert all(fewer.contains(settings_of(fewer, k)) for k in range(fewer.trials))
    kept = [s for s in tried if s.get("head.depth", 0) * (1 + s.get("decay", 0)) <= 4 or "decay" not in s]
    assert fewer.trials == len([s for s in kept if s["optimizer"] != "adam" or s.get("head.depth", 0) < 4]) == 11
    with pytest.raises(StudyError, match=r'no combination of the grid meets them, and 0 met "mode < 1"; loosen them'):
        study_of(tmp_path, CHAIN, "grid", ["decay >= 0", "mode < 1"])
    with pytest.raises(StudyError, match="may have 100,000 combinations, not 1,000,000"):
        many = "".join(f"x{k} = {list(range(10))}\n" for k in range(6))
        study_of(tmp_path, many, "grid", ["x0 < x1"])


def test_random_search_draws_until_the_constraints_hold(tmp_path):
    space = 'a = { type = "float", low = 1, high = 100 }\nb = { type = "float", low = 1, high = 100 }\n'
    study = study_of(tmp_path, space, constraints=["a * b <= 100", "a != 7 or b > 1"])
    seen = [settings_of(study, number) for number in range(50)]
    assert all(s["a"] * s["b"] <= 100 and study.contains(s) for s in seen) and len({s["a"] for s in seen}) > 5
    assert seen == [settings_of(study, number) for number in range(50)]
    free = study_of(tmp_path, space)
    allowed = [(s, settings_of(study, k)) for k in range(200) if study.allowed(s := settings_of(free, k))]
    assert allowed and all(before == after for before, after in allowed), "a first draw that is allowed stays"
    assert not study.contains({**seen[0], "a": 100, "b": 100})
    with pytest.raises(StudyError, match=r'constraints: 0 of 10,000 random settings met them, and 0 met "a > 100"'):
        study_of(tmp_path, space, constraints=["a <= b", "a > 100"])
    with pytest.raises(StudyError, match=r"[0-9] of 10,000 random settings met them"):
        study_of(tmp_path, space, constraints=["a == 1", "b == 1"])


@pytest.mark.parametrize(
    ("constraints", "complaint"),
    [
        (["x <"], '"x <" is no expression'),
        (["y > 1"], "\"y > 1\" names 'y', which is no setting of this study"),
        ([3], "must be a list of expressions in quotes"),
    ],
)
def test_a_bad_constraint_is_refused(tmp_path, constraints, complaint):
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, 'x = { type = "float", low = 0, high = 1 }\n', constraints=constraints)
    assert "mine.toml: constraints: " in str(caught.value) and complaint in str(caught.value)


def test_constraints_without_simpleeval(tmp_path, monkeypatch):
    searched = study_of(tmp_path, "x = [1, 2]\n", "grid", ["x > 1"])
    assert not searched.contains({"x": 1})
    for part in (derived, study):
        monkeypatch.setattr(part, "library_is_there", lambda: False)
    monkeypatch.setattr("foldertune.strategies.drawing.library_is_there", lambda: False)
    for strategy in ("random", "grid"):
        with pytest.raises(StudyError, match=r"constraints: need simpleeval: pip install 'foldertune\[report\]'"):
            study_of(tmp_path, "x = [1, 2]\n", strategy, ["x > 1"])
    assert searched.contains({"x": 1}), "whoever only reads the folder takes what was trained for allowed"
