"""The best settings of a study, and studies side by side."""

from __future__ import annotations

import json
import os

import pytest

from foldertune import best, cli
from foldertune.errors import UserError
from foldertune.protocol import Folder, TrialName
from foldertune.reading.comparison import Comparison
from foldertune.reading.figures.comparison import picture_of_comparison
from foldertune.reading.figures.timeline import draw_timeline
from foldertune.reading.page.sections import compare_studies
from foldertune.reading.reader import read_results
from foldertune.reading.studies import read_all
from tests.reading.test_facts import RECORD, write

SPACE = {"model": {"rate": {"type": "float", "low": 0.0, "high": 1.0}}}


def fill(path, scores, *, epochs=({"epoch": 2, "loss": 1},), **changes):
    """A study whose trials took a minute each, one after another, with two epochs; one without a value (None) failed."""
    folder = Folder(path)
    folder.prepare()
    folder.write_study({**RECORD, "space": SPACE, "trials": len(scores), **changes})
    for k, score in enumerate(scores):
        claim = {"claimed": f"h-1-{k}", "host": "h", "time": f"2026-01-01T00:0{k}:00Z"}
        end = {"result": {"score": score}} if score is not None else {"error": "no"}
        lines = [{"settings": {"model": {"rate": k / 10}, "seed": k}}, claim, *epochs]
        write(folder, TrialName(k, 1, "seen"), [*lines, {**end, "time": f"2026-01-01T00:0{k + 1}:00Z"}])
    return path


def test_the_best_settings_are_those_that_the_objective_got(tmp_path, capsys, monkeypatch):
    logs = fill(tmp_path / "one", [3.0, None, 1.0, 2.0])
    assert best(logs) == {"model": {"rate": 0.2}, "seed": 2}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert best("~/one") == best(logs)
    assert cli.main(["best", "--logs", str(logs)]) == 0
    assert json.loads(capsys.readouterr().out) == best(logs)
    assert best(fill(tmp_path / "most", [3.0, 1.0], direction="maximize")) == {"model": {"rate": 0.0}, "seed": 0}


@pytest.mark.parametrize(
    ("scores", "changes", "wanted"),
    [
        ([], {"trials": 3}, "no trial is counted yet (0 running)"),
        ([None, None], {}, "no trial has a value of score to go by (2 failed, 0 succeeded)"),
        (
            [2.0, None],
            {"collapsed": "score"},
            "no trial has a value of score to go by (1 failed, 1 succeeded, 1 of them",
        ),
    ],
)
def test_before_anything_has_succeeded_there_is_no_best(tmp_path, capsys, scores, changes, wanted):
    logs = fill(tmp_path / "one", scores, **changes)
    with pytest.raises(UserError, match="no trial"):
        best(logs)
    assert cli.main(["best", "--logs", str(logs)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and wanted in said and "status --logs" in said


def test_results_that_no_master_has_collected_are_told_of(tmp_path, capsys):
    """No master runs, but workers have finished trials."""
    folder = Folder(fill(tmp_path / "one", [3.0, 1.0]))
    options = ["--logs", str(folder.path)]
    os.rename(folder.locate(TrialName(1, 1, "seen")), folder.locate(TrialName(1, 1, "done")))
    waiting = "1 finished, waiting for the master to collect it"
    assert cli.main(["status", *options]) == 0 and f"1 succeeded, {waiting}" in capsys.readouterr().out
    assert cli.main(["results", *options]) == 0
    assert f"{waiting}; if no master runs, start it again\n" in capsys.readouterr().out
    assert cli.main(["best", *options]) == 0 and waiting in capsys.readouterr().err
    work = read_results(folder.path).work
    assert {span.state for span in work.spans} == {"seen", "done"}
    assert [text.get_text() for text in draw_timeline(work).legends[0].get_texts()] == ["a trial (shades alternate)"]
    os.rename(folder.locate(TrialName(0, 1, "seen")), folder.locate(TrialName(0, 1, "done")))
    assert cli.main(["best", *options]) == 2
    said = capsys.readouterr().err
    assert "2 finished, waiting for the master" in said and "start it again" in said


def test_several_studies_are_compared(tmp_path, capsys):
    one = fill(tmp_path / "one", [3.0, None, 1.0, 2.0])
    two = fill(tmp_path / "two", [0.5, 4.0], seed=7, space={**SPACE, "width": [1, 2]})
    assert cli.main(["results", "--logs", str(one), "--logs", str(two), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"study": "two", "score": 0.5, "trial": 0, "trials": 2, "succeeded": 2, "trials to best": 1, "time to best (s)": 60.0,
         "epochs to best": 2, "model.rate": 0.0, "width": None},
        {"study": "one", "score": 1.0, "trial": 2, "trials": 4, "succeeded": 3, "trials to best": 2, "time to best (s)": 180.0,
         "epochs to best": 4, "model.rate": 0.2, "width": None},
    ]  # fmt: skip
    assert cli.main(["results", "--logs", str(tmp_path)]) == 0, "the studies below a folder"
    said = capsys.readouterr().out
    assert "2 studies, lowest score first" in said
    for line in ("seed: 0 (one), 7 (two)", "space.width: not there (one), [1, 2] (two)", "trials: 4 (one), 2 (two)"):
        assert f"  {line}\n" in said
    entries = read_all([one, two])
    compared = compare_studies(Comparison(entries), tmp_path)
    assert (tmp_path / "comparison.svg").exists() and compared.table.length == 2
    figure = picture_of_comparison(Comparison(entries)).draw()
    assert [[list(line.get_xdata()) for line in axes.lines] for axes in figure.axes] == [
        [[1, 2], [1, 2, 3]], [[60.0, 120.0], [60.0, 180.0, 240.0]], [[2, 4], [2, 4, 6]],
    ]  # fmt: skip


def test_epochs_that_nobody_reported_are_no_number(tmp_path):
    one = fill(tmp_path / "one", [3.0, 1.0], epochs=())
    two = fill(tmp_path / "two", [2.0])
    assert [row["epochs to best"] for row in Comparison(read_all([one, two])).rows] == [None, 2]


def test_studies_with_other_metrics_are_not_ranked(tmp_path, capsys):
    one = fill(tmp_path / "one", [3.0])
    two = fill(tmp_path / "two", [0.5, 4.0], direction="maximize")
    assert cli.main(["results", "--logs", str(one), str(two), str(one)]) == 0
    said = capsys.readouterr().out
    assert "3 studies, with different metrics, which can't be compared" in said and "one 2" in said
    assert "direction: minimize (one and one 2), maximize (two)" in said
    assert picture_of_comparison(Comparison(read_all([one, two]))) is None
