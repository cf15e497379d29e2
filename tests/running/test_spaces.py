"""Null, lists, tables and absent settings on their whole way: study, objective, command, tables, figures, page, best."""

from __future__ import annotations

import csv
import json

from foldertune import cli, load
from foldertune.reading.best import best
from foldertune.reading.reader import read_results

STUDY = """
objective = "tests.objectives:echo"
strategy = "grid"
metric = "loss"
constraints = ["decay <= 0.25"]
[space]
optimizer = ["sgd", "adam"]
decay = { type = "float", low = 0.0, high = 0.5, step = 0.25, when = { optimizer = "sgd" } }
layers = { type = "categorical", choices = [[8, 8], [16, { null = true }]], ordered = true }
model.extra = [{ null = true }, "null", { a = 1, "b.c" = [true] }]
"""
EXTRAS = [None, "null", {"a": 1, "b.c": [True]}]
LAYERS = [[8, 8], [16, None]]


def chosen():
    for decay in (0.0, 0.25, None):
        shape = {"optimizer": "adam"} if decay is None else {"optimizer": "sgd", "decay": decay}
        for layers in LAYERS:
            yield from ({**shape, "layers": layers, "model": {"extra": extra}} for extra in EXTRAS)


def test_a_search_with_every_kind_of_value(bench, capsys):
    file = bench.path / "mine.toml"
    file.write_text(STUDY)
    master = bench.master(file)
    bench.finish(bench.worker("echo"))
    bench.finish(master)
    bench.assert_complete(18)
    rows = bench.rows()
    given = [json.loads(row.metrics["given"]) for row in rows]
    for settings in given:
        del settings["seed"]
    assert given == list(chosen()), "the objective gets the values themselves"
    results = read_results(bench.logs)
    assert all(results.study.contains(trial.settings) for trial in results.trials)
    assert [trial.settings["model.extra"] for trial in results.trials] == [s["model"]["extra"] for s in given]
    assert json.dumps(best(bench.logs)["model"]) == json.dumps({"extra": None}), "the shortest"
    with open(bench.folder.results, newline="") as table:
        (first, *_, last) = csv.DictReader(table)
    assert (first["model.extra"], first["layers"], first["decay"]) == ("null", "[8, 8]", "0.0")
    assert (last["model.extra"], last["layers"], last["decay"]) == (json.dumps(EXTRAS[2]), "[16, null]", "")

    def show(*options):
        assert cli.run("results", [*options, "--all", "--logs", str(bench.logs)]) == 0
        return capsys.readouterr().out

    grouped = json.loads(show("--group", "model.extra,layers", "--format", "json"))
    assert len(grouped) == 6 and all(row["trials"] == 3 for row in grouped)
    assert sorted(json.dumps(row["model.extra"]) for row in grouped) == sorted(2 * [*map(json.dumps, EXTRAS)])
    for condition, trials in (
        ("model.extra=null", 12), ('model.extra="null"', 6), ("layers=[8,8]", 9), ("decay=", 6), ("decay!=", 12)
    ):  # fmt: skip
        found = json.loads(show("--where", condition, "--format", "json"))
        assert len(found) == trials, condition
    markdown = show("--columns", "trial,decay,model.extra", "--sort", "trial", "--format", "markdown")
    assert "| 0 | 0 | null |" in markdown and '| 1 | 0 | "null" |' in markdown and "| 12 | – | null |" in markdown
    frame = load(bench.logs)
    assert list(frame["model.extra"][:3]) == EXTRAS and frame["layers"][3] == [16, None]
    assert cli.run("results", ["--keep", str(bench.path / "kept"), "--logs", str(bench.logs)]) == 0
    kept = read_results(bench.path / "kept")
    assert [trial.settings for trial in kept.trials] == [trial.settings for trial in results.trials]
    assert results.importance is not None and set(results.importance.shares) == set(results.study.space)
    assert len(results.groups("layers", "model.extra")) == 6
    assert [group.trials[0].settings["layers"] for group in results.groups("layers")] == LAYERS
    assert results.scores.settings["layers"].texts == ["[8, 8]", "[16, null]"], "in their own order"
    bench.finish(bench.start("-m", "foldertune", "report", "--logs", bench.logs))
    page = (bench.logs / "report" / "report.html").read_text()
    assert "<td>&#34;null&#34;</td>" in page and "<td>null</td>" in page
    assert "decay –" not in bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.logs))


def test_a_command_gets_each_value_as_a_word(bench):
    file, script = bench.path / "mine.toml", bench.path / "say.py"
    file.write_text(STUDY.replace('objective = "tests.objectives:echo"\n', ""))
    script.write_text("import json, sys\nprint(json.dumps({'loss': 0.5, 'words': sys.argv[1:]}))\n")
    command = f"python {script} --decay {{decay}} --wd={{decay}} {{layers}} {{model.extra}} -v {{optimizer}}"
    bench.search(file, "--workers", 1, "--trials", 18, "--command", command)
    words = [row.metrics["words"] for row in bench.rows()]
    expected = []
    for settings in chosen():
        decay = str(settings.get("decay"))
        options = ["--decay", decay, f"--wd={decay}"] if "decay" in settings else []
        extra = settings["model"]["extra"]
        extra = extra if isinstance(extra, str) else json.dumps(extra)
        expected.append([*options, json.dumps(settings["layers"]), extra, "-v", settings["optimizer"]])
    assert words == expected
