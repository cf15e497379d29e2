"""Choices that look alike are different choices: in the study, the grid, groups, tables and figures."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys

import pytest

from foldertune.definitions import differences
from foldertune.errors import StudyError
from foldertune.protocol import TrialName
from foldertune.reading.figures.grid import draw_grid
from foldertune.reading.figures.hyperparameters import draw_hyperparameters
from foldertune.reading.importance import measure_importance
from foldertune.reading.reader import read_results
from foldertune.reading.samples import deviation_of, mean_of
from foldertune.study_file import load_study, study_from_record
from tests.conftest import METRIC, ROOT, settings_of
from tests.pages import write_trial

ALIKE = [1, "1", True, "True"]
HEAD = f'strategy = "grid"\nobjective = "mine:train"\n{METRIC}[space]\n'


def study_of(tmp_path, space, encoding="utf-8"):
    file = tmp_path / "mine.toml"
    file.write_text(HEAD + space, encoding=encoding)
    return load_study(str(file))


def test_a_study_with_choices_that_look_alike(tmp_path):
    study = study_of(tmp_path, 'x = [1, "1"]\ny = [true, "True"]\n', encoding="utf-8-sig")  # with a byte-order mark
    tried = [settings_of(study, number) for number in range(4)]
    assert [(s["x"], s["y"]) for s in tried] == [(1, True), (1, "True"), ("1", True), ("1", "True")]
    assert all(study.contains(settings) for settings in tried) and not study.contains({"x": True, "y": True})
    other = study_of(tmp_path, 'x = [true, "1"]\ny = [true, "True"]\n')
    assert differences(study, other) and not differences(study, study_from_record(study.to_record(), "x"))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([1, 1.0], "a value stands twice"),
        ([[8, None], [8.0, {"null": True}]], "a value stands twice"),
        ([2**63], "must have at most 63 bits"),
        ([[1, 2**63]], "must have at most 63 bits"),
        ([{"a": [float("inf")]}], "must be finite"),
        (json.loads("[" * 23 + "]" * 23), "more than 20 lists or tables inside of each other"),
        ([[datetime.date(2026, 1, 1)]], "is no value that JSON has; write it as text"),
    ],
)
def test_bad_choices(value, complaint):
    with pytest.raises(StudyError) as error:
        study_from_record({"strategy": "grid", "metric": "loss", "space": {"x": value}}, "mine.toml")
    assert complaint in str(error.value) and "mine.toml: space.x: " in str(error.value)


def test_a_file_that_no_parser_can_hold(tmp_path):
    with pytest.raises(StudyError, match=r"mine\.toml: has too many lists or tables"):
        study_of(tmp_path, f"x = {'[' * 5000}{']' * 5000}\n")


def test_a_seed_that_is_searched_counts(tmp_path):
    study = study_of(tmp_path, "seed = [3, 4]\nx = [0.5]\n")
    assert [settings_of(study, number) for number in range(2)] == [{"seed": 3, "x": 0.5}, {"seed": 4, "x": 0.5}]


def test_tables_and_figures_keep_them_apart(bench):
    study = study_of(bench.path, f"x = {json.dumps(ALIKE)}\ny = [1, true]\nz = [0.1, 0.2]\n")
    bench.folder.prepare()
    bench.folder.write_study({**study.to_record(), "trials": 16})
    for number in range(16):
        settings = settings_of(study, number)
        error = ALIKE.index(settings["x"]) if settings["x"] is not True else 2
        write_trial(bench.folder, TrialName(number, 1, "seen"), settings, [1e308], {"validation_error": 1e307 * error})
    results = read_results(bench.logs)
    groups = results.groups("x", "y")
    assert len(groups) == 8 and all(len(group.trials) == 2 for group in groups)
    assert results.scores.settings["x"].texts == sorted({"1", '"1"', "True", '"True"'})
    for figure in (draw_grid(results.grid("x", "y")), draw_hyperparameters(results.scores)):
        figure.canvas.draw()
    found = measure_importance(
        study, ["x", "y"], results.ended, [results.value(trial) for trial in results.ended], lambda trial, name: None
    )
    assert found.shares["x"] > 0.9 and found.predicted[("x",)] > 0.9
    command = [sys.executable, "-m", "foldertune", "results", "--logs", bench.logs]

    def run(*arguments):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout

    rows = run("--group", "x,y", "--format", "markdown", "--all").splitlines()[2:]
    assert len({tuple(row.split("|")[1:3]) for row in rows}) == 8, "each row can be told from the others"
    only = json.loads(run("--where", 'x="1"', "--all", "--format", "json"))
    assert len(only) == 4 and all(row["x"] == "1" for row in only)
    assert bench.finish(bench.start("-m", "foldertune", "report", "--logs", bench.logs))


def test_means_of_numbers_with_a_sum_beyond_all_floats(bench):
    assert mean_of([1e308] * 3) == 1e308 and deviation_of([1e308] * 3) == 0.0
    assert deviation_of([1e308, -1e308]) == pytest.approx(2**0.5 * 1e308, rel=1e-12)
    assert mean_of([1.0, 2.0]) == 1.5 and deviation_of([1.7e308, -1.7e308]) is None
    study = study_of(bench.path, "x = [1]\ny = [1, 2, 3]\n")
    bench.folder.prepare()
    bench.folder.write_study({**study.to_record(), "trials": 3})
    for number in range(3):
        result = {"validation_error": 1e308, "seconds": 1e308}
        write_trial(bench.folder, TrialName(number, 1, "seen"), settings_of(study, number), [1e308], result)
    for command in (["results", "--group", "x"], ["results"], ["status"], ["report"]):
        said = bench.finish(bench.start("-m", "foldertune", *command, "--logs", bench.logs))
        assert command != ["results", "--group", "x"] or said.count("1e+308") >= 2
