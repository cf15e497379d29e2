"""Study files, and every way to write one wrongly."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys

import pytest

from foldertune.definitions import differences
from foldertune.errors import StudyError
from foldertune.shipped import STUDIES
from foldertune.space import Categorical, Float, Int
from foldertune.strategies import load, plan
from foldertune.study_file import _KEYS, load_study, study_from_record
from tests.conftest import METRIC, ROOT, settings_of

GOOD = """
strategy = "random"
trials = 10
metric = "loss"
[fixed]
epochs = 3
[space]
learning_rate = { type = "float", low = 0.01, high = 0.3, log = true }
"""
SPACE = '[space]\nlearning_rate = { type = "float", low = 0.01, high = 0.3 }\n'
GRID = 'strategy = "grid"\n'

BAD = [
    ("strategy = ", "not TOML"),
    ('strategy = "random"\ntrials = 3\n' + SPACE, "metric: is missing"),
    ("trials = 3\n" + SPACE, "strategy: is missing"),
    ('strategy = "bayes"\ntrials = 3\n' + SPACE, 'strategy: must be "auto", "grid", '),
    ('strategy = "random"\n' + SPACE, "trials: is missing"),
    ('strategy = "random"\ntrials = "ten"\n' + SPACE, "trials: must be a whole number, not 'ten'"),
    ('strategy = "random"\ntrials = true\n' + SPACE, "trials: must be a whole number, not True"),
    ('strategy = "random"\ntrials = 0\n' + SPACE, "trials: must be at least 1, not 0"),
    (SPACE + 'strategy = "random"\n', "space.strategy: stands below [space], so it belongs to that; move it above all"),
    (
        'strategy = "random"\n' + SPACE + '[budget]\ntrials = 3\nmetric = "loss"\n',
        "budget.metric: stands below [budget]",
    ),
    (
        SPACE + "[fixed]\ndirection = 'up'\nmetric = 'loss'\n",
        "fixed.metric: stands below [fixed], and the study has no",
    ),
    ('strategy = "random"\ntrails = 3\n' + SPACE, "unknown key 'trails' (did you mean 'trials'?)"),
    ('strategy = "random"\ntrials = 3\nname = "x"\n' + SPACE, "a study's name is its file's"),
    ('strategy = "random"\ntrials = 3\ndirection = "up"\n' + SPACE, 'direction: must be "minimize" or "maximize"'),
    ('strategy = "random"\ntrials = 3\nrepeats = 2\n' + SPACE, "repeats: only for a space of lists and steps"),
    ('strategy = "random"\ntrials = 3\nmetric = 4\n' + SPACE, "metric: must be text in quotes, not 4"),
    ('strategy = "random"\ntrials = 3\nmetric = []\n' + SPACE, 'metric: must be a list such as ["loss", "seconds"]'),
    ('strategy = "random"\ntrials = 3\nmetric = ["a", 4]\n' + SPACE, 'metric: must be a list such as ["loss", "sec'),
    ('strategy = "random"\ntrials = 3\nmetric = ["a", "a"]\n' + SPACE, "metric: names one metric twice: a, a"),
    (
        'strategy = "random"\ntrials = 3\nmetric = ["a", "b"]\ndirection = ["minimize"]\n' + SPACE,
        "direction: must have one direction for each metric (a, b), not ['minimize']",
    ),
    (
        'strategy = "random"\ntrials = 3\nmetric = ["a", "b"]\ndirection = ["minimize", "up"]\n' + SPACE,
        'direction: must be "minimize" or "maximize", not \'up\'',
    ),
    ('strategy = "random"\ntrials = 3\nobjective = "mine"\n' + SPACE, 'objective: must be "MODULE:FUNCTION"'),
    ('strategy = "random"\ntrials = 3\n', "space: is empty"),
    ('strategy = "random"\ntrials = 3\nspace = 4\n', "space: must be a table"),
    ('strategy = "random"\ntrials = 3\n[fixed]\nepochs = [1, 2]\n' + SPACE, "fixed.epochs: must be one number"),
    ('strategy = "random"\ntrials = 3\n[fixed]\nmomentum = inf\n' + SPACE, "fixed.momentum: must be finite"),
    ('strategy = "random"\ntrials = 3\n[fixed]\nlearning_rate = 1\n' + SPACE, "fixed.learning_rate: is in [space]"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = 3\n', "space.x: must be a list of values"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { low = 1, high = 2 }\n', "space.x: its type must be"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = [], low = 1, high = 2 }\n', "space.x: its type must be"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "int", low = 1, hihg = 2 }\n', "did you mean 'high'"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "int", low = 1 }\n', "space.x: high is missing"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "int", low = 1, high = 2.5 }\n', "high must be a whole"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "float", low = 1, high = inf }\n', "must be a finite"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "float", low = 2, high = 1 }\n', "the range is empty"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "float", low = 1, high = 1 }\n', "the range is empty"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "float", low = 0, high = 1, log = true }\n', "above 0"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "float", low = 0, high = 1, log = 1 }\n', "true or false"),
    ('strategy = "random"\ntrials = 3\n[space]\nx = { type = "categorical", choices = 3 }\n', "must be a list"),
    (GRID + "[space]\n", "space: is empty"),
    (GRID + "[space]\nlearning_rate = []\n", "the list of values is empty"),
    (GRID + "[space]\nlearning_rate = [0.1, 0.1]\n", "stands twice"),
    (GRID + SPACE, "a grid needs the values themselves"),
    (GRID + "trials = 3\n[space]\nlearning_rate = [0.1, 0.2]\n", "trials: must be at most 2"),
    (GRID + "repeats = 0\n[space]\nlearning_rate = [0.1, 0.2]\n", "repeats: must be at least 1"),
    (GRID + "[space]\nlearning_rat = [0.1, 0.2]\n", "unknown setting 'learning_rat' (did you mean 'learning_rate'?)"),
    (GRID + "[space]\nlearning_rate = [-0.1, 0.2]\n", "learning_rate: must be at least 0"),
    (GRID + "[space]\nfilters = [0.5]\n", "filters: must be a whole number, not 0.5"),
    (GRID + '[fixed]\ndata = "huge"\n[space]\nfilters = [1]\n', 'data: must be "small" or "full"'),
    (GRID + "[space]\nbatch_size = [10, 6000]\n", "batch_size: 6000 is more than the 5,000"),
]


@pytest.mark.parametrize(("text", "complaint"), BAD)
def test_a_bad_study_is_refused_in_a_line_with_file_key_and_remedy(tmp_path, text, complaint):
    file = tmp_path / "mine.toml"
    file.write_text(text if "metric = " in text or complaint == "metric: is missing" else METRIC + text)
    logs = tmp_path / "logs"
    done = subprocess.run(
        [sys.executable, "master.py", file, "--logs", logs], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and str(file) in done.stderr and complaint in done.stderr, done.stderr
    assert not logs.exists()


def test_a_study_that_is_not_there():
    with pytest.raises(StudyError, match=r"scenari05: no such study \(did you mean 'scenario5'\?\)"):
        load_study("scenari05")


def test_all_studies_load_and_have_their_size():
    sizes = {path.stem: load(path.stem).trials for path in STUDIES.glob("*.toml")}
    scenarios = {"scenario1": 24, "scenario2": 9, "scenario3": 9, "scenario4": 9, "scenario5": 200, "scenario6": 200}
    assert sizes == {"quickstart": 16, "scenario5-auto": 0, **scenarios}


def test_scenario_1_tries_each_rate_three_times_with_other_seeds():
    study = load("scenario1")
    settings = [settings_of(study, number) for number in range(24)]
    rates = [0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 1, 2]
    assert [s["learning_rate"] for s in settings] == 3 * rates
    assert len({s["seed"] for s in settings}) == 24
    assert all(
        (s["epochs"], s["batch_size"], s["momentum"], s["filters"], s["data"]) == (50, 500, 0, 32, "small")
        for s in settings
    )


@pytest.mark.parametrize(
    ("number", "keys", "values"),
    [
        (2, ("batch_size", "learning_rate"), {(b, r) for b in (20, 100, 500) for r in (0.1, 0.2, 0.5)}),
        (3, ("learning_rate", "momentum"), {(r, m) for r in (0.001, 0.01, 0.1) for m in (0, 0.5, 0.9)}),
        (4, ("filters",), {(2**k,) for k in range(9)}),
    ],
)
def test_scenarios_2_to_4_are_the_grids_of_the_exercise(number, keys, values):
    study = load(f"scenario{number}")
    settings = [settings_of(study, k) for k in range(study.trials)]
    assert {tuple(s[key] for key in keys) for s in settings} == values


@pytest.mark.parametrize("name", ["scenario5", "scenario6"])
def test_scenario_5_draws_as_the_exercise_does(name):
    space = load_study(name).space
    for k in range(1000):
        u = k / 1000
        assert space["batch_size"].at(u) == int(2 ** (4 + 4 * u))
        assert space["filters"].at(u) == 10 + int(90 * u)
        assert space["momentum"].at(u) == u
        assert space["learning_rate"].at(u) == pytest.approx(10 ** (-2 + 1.5 * u), rel=1e-12)


@pytest.mark.parametrize(
    "dimension",
    [Float(-1, 3), Float(1e-5, 1, log=True), Int(3, 7), Int(1, 1000, log=True), Categorical(("a", 2, None))],
)
def test_a_draw_stays_in_its_range_and_reaches_all_of_it(dimension):
    rng = random.Random(5)
    values = [dimension.at(rng.random()) for _ in range(20000)] + [
        dimension.at(0.0),
        dimension.at(math.nextafter(1, 0)),
    ]
    if isinstance(dimension, Categorical):
        assert set(values) == {"a", 2, None}
    else:
        assert min(values) >= dimension.low and max(values) <= dimension.high
        assert dimension.at(0.0) == dimension.low and dimension.at(math.nextafter(1, 0)) == pytest.approx(
            dimension.high
        )
    if isinstance(dimension, Int) and not dimension.log:
        counts = [values.count(k) for k in range(3, 8)]
        assert min(counts) > 0.9 * max(counts)
    if isinstance(dimension, Float) and dimension.log:
        assert sum(value < 10**-2.5 for value in values) == pytest.approx(len(values) / 2, rel=0.05)


def test_settings_depend_on_study_seed_and_number_only():
    study = load("scenario5")
    forward = [settings_of(study, k) for k in range(50)]
    assert [settings_of(study, k) for k in reversed(range(50))][::-1] == forward
    code = "from foldertune.strategies import load; from tests.conftest import settings_of; "
    code += "print([settings_of(load('scenario5'), k) for k in range(50)])"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout.strip() == str(forward)
    assert len({s["learning_rate"] for s in forward}) == 50
    assert settings_of(load("scenario5", seed=1), 7) != settings_of(study, 7)
    assert settings_of(load("scenario5", trials=3), 7) == settings_of(study, 7)


def test_a_grid_goes_through_all_combinations_before_it_repeats():
    record = {"strategy": "grid", "metric": "loss", "repeats": 2, "space": {"a": [1, 2], "b": ["x", "y", "z"]}}
    study = plan(study_from_record(record, "x"), "x")
    tried = [tuple(settings_of(study, k)[name] for name in "ab") for k in range(12)]
    assert tried[:6] == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")] and tried[6:] == tried[:6]
    assert study.trials == 12


def test_a_study_comes_back_from_its_record():
    for path in STUDIES.glob("*.toml"):
        for study in load_study(path.stem), load(path.stem):
            assert study_from_record(json.loads(json.dumps(study.to_record())), "study.json") == study


def test_differences_are_named_and_the_budget_is_none(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(GOOD)
    first = load_study(str(file))
    file.write_text(GOOD.replace("epochs = 3", "epochs = 4").replace("0.3", "0.5").replace("= 10", "= 20"))
    found = differences(first, load_study(str(file)))
    assert [item.split()[0] for item in found] == ["fixed.epochs", "space.learning_rate"]
    assert "3 in the folder, now 4" in found[0]


def test_quickstart_explains_every_key():
    text = (STUDIES / "quickstart.toml").read_text()
    for key in _KEYS:
        assert re.search(rf"^((# )?{key} = .+|\[{key}\] +# .+)$", text, re.M), key
