"""Settings in tables: nested in files and for an objective, `model.width` everywhere else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from foldertune import cli, load
from foldertune.definitions import differences
from foldertune.errors import StudyError
from foldertune.nesting import flatten, nest
from foldertune.protocol import BrokenFile, Trial, TrialName
from foldertune.reading.reader import read_results
from foldertune.strategies import load as load_study
from foldertune.study_file import study_from_record
from tests.conftest import settings_of

STUDY = """
objective = "tests.objectives:nested"
strategy = "{strategy}"
trials = 8
metric = "loss"
[space]
rate = {rate}
[space.model]
width = [64, 128]
head.kind = ["a", "b"]
[fixed.model]
activation = "relu"
[derived]
cost = "model.width * 2"
"""
RANGE = '{ type = "float", low = 0.0, high = 1.0 }'


def write(path, strategy="random", rate=RANGE, **changes):
    file = path / "nested.toml"
    text = STUDY.replace("{strategy}", strategy).replace("{rate}", rate)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return str(file)


def test_a_study_with_tables_holds_together(tmp_path):
    study = load_study(write(tmp_path))
    assert [*study.space] == ["rate", "model.width", "model.head.kind"]
    settings = settings_of(study, 0)
    assert [*settings] == ["rate", "model.width", "model.head.kind", "seed", "model.activation"]
    assert study.contains(settings) and not study.contains({**settings, "model.width": 65})
    assert study.derive(settings, {}) == {"cost": 2 * settings["model.width"]}
    record = study.to_record()
    assert record["space"]["model"] == {"width": [64, 128], "head": {"kind": ["a", "b"]}}
    assert record["fixed"] == {"model": {"activation": "relu"}}
    assert study_from_record(json.loads(json.dumps(record)), "study.json") == study
    other = replace(study, fixed={"model.activation": "tanh"})
    assert differences(study, other) == ["fixed.model.activation (relu in the folder, now tanh)"]
    quoted = load_study(
        write(tmp_path, x=("[space.model]\nwidth", '"model.width"'), y=("head.kind", '"model.head.kind"'))
    )
    assert quoted == study, "a dot in a name means a table"
    grid = load_study(write(tmp_path, "grid", "[0.1, 0.2]"))
    chosen = [settings_of(grid, number) for number in range(8)]
    assert len({(s["rate"], s["model.width"], s["model.head.kind"]) for s in chosen}) == 8


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("width = [64, 128]", "width = 64", "space.model.width: must be a list of values"),
        ("width = [64, 128]", "width = { low = 1, high = 2 }", "space.model.width: its type must be"),
        ("width = [64, 128]", "width = { choices = [1, 2] }", "space.model.width: its type must be"),
        ("width = [64, 128]", 'width = { type = "int", low = 1 }', "space.model.width: high is missing"),
        ("activation =", "width =", "fixed.model.width: is in [space] as well"),
        ("[fixed.model]\nactivation", "[fixed]\nmodel", "'model' is a setting, so it can't be a table as well"),
        ("[fixed.model]", "[fixed.seed]", "fixed.seed.activation: 'seed' is a setting"),
        ("[fixed.model]", '[fixed]\n"" = 1', "fixed.: a part of this name is empty"),
        ("[space.model]", '"model.width" = [1]\n[space.model]', "space: 'model.width' is there twice"),
        ("activation =", 'x = { type = "float", low = 0, high = 1 }\ny =', "fixed.model.x: must be one number"),
    ],
)
def test_an_error_names_the_nested_setting(tmp_path, old, new, complaint):
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, change=(old, new)))
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("tables", [{"a": 1}, {"a": {"b": 1, "c": {"d": [1]}}, "e": {}}, {"": {"": 1}}, {"a": {}}])
def test_nesting_comes_back(tables):
    assert nest(flatten(tables)) == tables


def test_no_setting_of_a_strange_file_is_hidden(tmp_path):
    name = TrialName(0, 1)
    odd = {"a": 1, "a.b": 2, "c.d": 3}
    assert Trial.from_records(name, [{"settings": odd}], "x").settings == odd
    assert nest(odd) == {"a": 1, "a.b": 2, "c": {"d": 3}}
    with pytest.raises(BrokenFile, match=r"'a\.b' is there twice"):
        Trial.from_records(name, [{"settings": {"a": {"b": 1}, "a.b": 2}}], "x")


def test_a_search_in_tables(bench, capsys):
    bench.logs.mkdir()
    (bench.logs / "trial-90001-1.jsonl").write_text('{"settings": {"rate": 0.5, "model": {"width": 7}}}\n')
    (bench.logs / "trial-90002-1.jsonl").write_text('{"settings": {"rate": 0.5, "model.width": 8}}\n')
    master = bench.master(write(bench.path))
    bench.finish(bench.worker("nested"))
    bench.finish(master)
    rows = bench.rows()
    assert [row.metrics["loss"] for row in rows if row.trial >= 90001] == [0.5 * 7, 0.5 * 8]
    assert all(row.metrics["loss"] == row.settings["rate"] * row.settings["model.width"] for row in rows)
    (file,) = bench.folder.seen.glob("trial-00000-*.seen")
    first = json.loads(file.read_text().splitlines()[0])
    assert first["settings"]["model"].keys() == {"width", "head", "activation"}, "as pandas and people read it"
    study = study_from_record(bench.folder.read_study(), "study.json")
    name = bench.folder.record_failure(TrialName(95_000, 1), settings_of(study, 3), ["lost"])
    first = json.loads((bench.folder.seen / str(name)).read_text().splitlines()[0])
    assert first["settings"]["model"].keys() == {"width", "head", "activation"}
    (bench.folder.seen / str(name)).unlink()
    assert {7, 8} < set(load(bench.logs)["model.width"])
    table = ["--columns", "trial,model.width,cost", "--format", "csv", "--all", "--logs", str(bench.logs)]
    assert cli.run("results", ["--where", "model.width=7", *table]) == 0
    assert capsys.readouterr().out == "trial,model.width,cost\n90001,7,14.0\n"
    assert cli.run("results", ["--keep", str(bench.path / "kept"), "--logs", str(bench.logs)]) == 0
    kept = read_results(bench.path / "kept")
    assert [trial.settings for trial in kept.trials] == [row.settings for row in rows]
