"""Several metrics: who counts, who lies on the Pareto front, and where that is told."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest

from foldertune import best, cli, load
from foldertune.errors import UserError
from foldertune.metrics import best_of, layers
from foldertune.protocol import Folder, TrialName
from foldertune.reading.findings import find
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from tests.reading.test_facts import counted, results_of, write
from tests.reading.test_results import PANDAS

TWO = 'metric = ["validation_error", "cost"]\n'


def numbers_on(results: Results) -> list[int]:
    return [point.trials[0].name.number for point in results.front]


def test_a_search_with_two_metrics_and_everywhere_its_front_is_told(bench, capsys):
    """Its trials with x from 0.1 to 0.5 are the front; those above 0.9 lack a metric, so they fail."""
    file = bench.study(trials=24, objective="trading", extra=TWO)
    said = bench.search(file, "--workers", 2, "--max-attempts", 1)
    assert "search for the lowest validation_error and the lowest cost" in said
    results = read_results(bench.logs)
    xs = {trial.name.number: trial.settings["x"] for trial in results.trials}
    on = sorted((n for n, x in xs.items() if 0.1 <= x <= 0.5), key=lambda n: -xs[n])
    assert [trial.name.number for trial in results.failed] == [n for n in xs if xs[n] > 0.9] != []
    assert "the result lacks 'cost', one of the study's metrics; it has" in results.failed[0].error
    if min(xs.values()) < 0.1:  # no number: a result without a value
        assert results.value(results.trials[min(xs, key=xs.__getitem__)]) is None
    shown = [n for n in xs if 0.5 < xs[n] <= 0.9]
    nearest = min([*on, *shown], key=lambda n: abs(xs[n] - 0.5))
    assert (
        numbers_on(results) == [n for n in on if abs(xs[n] - 0.5) <= 0.4] and results.ranking[0].name.number == nearest
    )

    def say(*command):
        assert cli.main([*map(str, command), "--logs", str(bench.logs)]) == 0
        return capsys.readouterr()

    front = f"front of validation_error and cost: trials {', '.join(map(str, on[:10]))}"
    assert front in " ".join(said.split()) and front in say("status").out
    rows = list(csv.DictReader(io.StringIO(say("results", "--where", "front=true", "--all", "--format", "csv").out)))
    assert [int(row["trial"]) for row in rows] == on and all(row["cost"] for row in rows)
    assert "front" not in bench.folder.results.read_text().partition("\n")[0], "it changes with every result"
    printed = say("best")
    assert json.loads(printed.out)["x"] == xs[nearest] == best(bench.logs)["x"]
    assert f"{len(on)} trials on the Pareto front of validation_error and cost; --front prints all" in printed.err
    listed = json.loads(say("best", "--front").out)
    assert [(each["trial"], each["metrics"]["cost"], each["settings"]["x"]) for each in listed] == [
        (n, xs[n], xs[n]) for n in on
    ]
    found = find(results)
    assert f"{len(on)} of {len(results.scored)} trials lie on the Pareto front" in " ".join(found.answers)
    assert [row["trial"] for row in found.tables[0].rows] == on
    picture = found.pictures[0]
    (axes,) = picture.draw().axes
    assert picture.name == "front" and (axes.get_xlabel(), axes.get_ylabel()) == ("validation error", "cost")
    assert {tuple(point) for point in axes.lines[-1].get_xydata()} == {((xs[n] - 0.5) ** 2, xs[n]) for n in on}
    assert say("results", "--keep", bench.path / "kept").out
    assert numbers_on(read_results(bench.path / "kept")) == on
    pytest.importorskip("pandas", reason=PANDAS)
    assert sorted(load(bench.logs).query("front")["trial"]) == sorted(on)
    assert "it differs in metric" in bench.finish(bench.master(bench.study(trials=24, objective="trading")), code=2)


def test_one_metric_has_no_front(tmp_path, capsys):
    results = results_of([counted(0, score=1.0), counted(1, score=2.0)])
    assert results.front == [] and results.trade is None and find(results).tables == []
    folder = Folder(tmp_path / "one")
    folder.prepare()
    folder.write_study(results.study.to_record())
    write(
        folder, TrialName(0, 1, "seen"), [{"settings": {"rate": 0.5}}, {"claimed": "h-1-a"}, {"result": {"score": 1}}]
    )
    assert cli.main(["best", "--front", "--logs", str(folder.path)]) == 2
    assert "the study has one metric, score, and so no Pareto front; leave out --front" in capsys.readouterr().err


def test_directions_repeats_and_trials_that_are_no_whole_training():
    two = {"metric": ["score", "size"], "direction": ["maximize", "minimize"]}
    pairs = [(1.0, 5.0), (3.0, 7.0), (3.0, 8.0), (2.0, 1.0), (0.0, 1.0), (None, 0.0), (9.0, None)]
    trials = [counted(k, score=score, size=size) for k, (score, size) in enumerate(pairs)]
    assert numbers_on(results_of(trials, **two)) == [1, 3]
    assert [trial.name.number for trial in results_of(trials, **two).ranking][:5] == [1, 2, 3, 0, 4]
    equal = [counted(0, score=1.0, size=2.0), counted(1, score=1.0, size=2.0)]
    assert numbers_on(results_of(equal, **two)) == [0, 1], "none beats the other"
    trials[1].stopped = "median: …"
    assert numbers_on(results_of(trials, **two)) == [2, 3]
    assert numbers_on(results_of(trials, **two, collapsed="score == 2")) == [2, 0, 4]
    lists = {**two, "space": {"rate": [0.1, 0.2, 0.3]}, "repeats": 2}
    repeats = [counted(k, score=score, size=1.0) for k, score in enumerate([2.0, 9.0, 5.0, 0.0, -5.0, 4.0])]
    for k, trial in enumerate(repeats):
        trial.settings = {"rate": [0.1, 0.2, 0.3][k % 3]}
    [point] = results_of(repeats, **lists).front
    assert [trial.name.number for trial in point.trials] == [2, 5] and point.values == [4.5, 1.0], "the best mean"
    rungs = {**two, "fidelity": {"setting": "epochs", "lowest": 1, "highest": 9}}
    for k, trial in enumerate(trials):
        trial.stopped, trial.settings = None, {"rate": k / 10, "epochs": 1 if k == 3 else 9}
    assert numbers_on(results_of(trials, **rungs)) == [1, 0, 4], "a short training costs little in any case"


def test_layers_are_those_of_the_definition():
    """A slow way to find them agrees; and what lies behind enough of them is left out."""
    rng = random.Random(5)
    for metrics in (1, 2, 3):
        losses = {k: tuple(float(rng.randrange(12)) for _ in range(metrics)) for k in range(90)}
        left, slow = dict(losses), []
        while left:
            front = [
                k
                for k, own in left.items()
                if not any(
                    other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in left.values()
                )
            ]
            slow.append(set(front))
            left = {k: own for k, own in left.items() if k not in front}
        assert [set(front) for front in layers(losses)] == slow
        assert [set(front) for front in layers(losses, 1)] == slow[:1]
        chosen = best_of(losses, 20)
        depth = {k: level for level, front in enumerate(slow) for k in front}
        assert len(set(chosen)) == 20 and sorted(map(depth.get, chosen)) == sorted(depth.values())[:20]


def test_a_front_needs_a_whole_training(tmp_path):
    from foldertune.reading.best import front_of

    with pytest.raises(UserError, match="no whole training has all of score, size yet"):
        front_of(results_of([counted(0, score=None, size=1.0)], metric=["score", "size"]), tmp_path)
