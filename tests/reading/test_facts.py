"""The facts of one object agree with each other, whatever the folder shows at the moment."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from foldertune.changes import Change
from foldertune.protocol import Folder, Trial, TrialName, to_line
from foldertune.reading.archive import open_study
from foldertune.reading.facts import Column, Curve, Runs
from foldertune.reading.findings import say_best
from foldertune.reading.page.curves import curves_of
from foldertune.reading.reader import Reader
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import best_line
from foldertune.space import identity
from foldertune.study import Quantity
from foldertune.study_file import study_from_record
from tests.reading.test_status import SHOWN, Terminal

RECORD = {
    "name": "toy", "strategy": "random", "trials": 3, "metric": "score", "objective": "mine:train",
    "space": {"rate": {"type": "float", "low": 0.0, "high": 1.0}},
}  # fmt: skip


def counted(number, **result):
    return Trial(TrialName(number, 1, "seen"), {"rate": number / 10}, result=result)


def results_of(trials, **record):
    return Results.of(study_from_record({**RECORD, **record}, "toy"), trials)


def fill(folder: Folder, numbers=(0, 1)):
    """A study with a counted trial for each of these numbers."""
    folder.prepare()
    folder.write_study(RECORD)
    for number in numbers:
        lines = [{"settings": {"rate": 0.5}}, {"claimed": "h-1-a"}, {"result": {"score": number}}]
        write(folder, TrialName(number, 1, "seen"), lines)


def write(folder, name, lines):
    with open(folder.locate(name), "wb") as file:
        file.write(b"".join(map(to_line, lines)))


@pytest.mark.parametrize("rule", ["diverged", "doubled > 4"])
def test_the_best_is_the_same_everywhere_and_did_not_collapse(rule):
    """A score may be the best over all epochs although training diverged later."""
    pytest.importorskip("simpleeval", reason="simpleeval is not installed: pip install simpleeval")
    trials = [counted(0, score=0.01, diverged=True, loss=3.0), counted(1, score=0.5, diverged=False, loss=1.0)]
    results = results_of(trials, collapsed=rule, derived={"doubled": "2 * loss"})
    assert [trial.name.number for trial in results.collapsed] == [0]
    assert [trial.name.number for trial in results.ranking] == [1, 0]
    assert results.best[0][0].name.number == 1 and results.course.best == [0.01, 0.5]
    assert "0.5 in trial 1" in best_line(results) and "0.5 in trial 1" in say_best(results)[0]


def test_each_lost_attempt_has_its_own_reason():
    """Attempt 1 was given back, so the reasons belong to 2 and 3."""
    lost = [Trial(TrialName(0, attempt, "lost"), {"rate": 0.5}) for attempt in (2, 3)]
    later = Trial(TrialName(0, 4, "taken", "h-1-a"), {"rate": 0.5}, lost=["killed", "too slow"])
    assert [setback.reason for setback in results_of([*lost, later]).setbacks] == ["killed", "too slow"]
    without_file = results_of([lost[1], later]).setbacks
    assert [setback.reason for setback in without_file] == ["no worker has said a word"], "not another one's reason"


def test_a_listing_that_lacks_names_takes_no_counted_trial_away(folder, monkeypatch):
    fill(folder)
    reader = Reader(*open_study(folder.path))
    assert len(reader.read().trials) == 2
    monkeypatch.setattr(reader.folder, "settled", lambda: [TrialName(1, 1, "seen")])
    assert [trial.name.number for trial in reader.read().trials] == [0, 1]


def test_what_was_queued_by_hand_is_asked_for_even_if_it_cannot_be_read(folder):
    fill(folder)
    with open(folder.locate(TrialName(90001, 1, "done")), "w") as file:
        file.write("nonsense\n")
    assert Reader(*open_study(folder.path)).read().asked == 4


def test_a_running_attempt_at_a_counted_trial_is_shown(folder):
    fill(folder)
    write(folder, TrialName(1, 2, "taken", "h-1-a"), [{"settings": {"rate": 0.5}}, {"claimed": "h-1-a"}])
    assert [trial.name.attempt for trial in Reader(*open_study(folder.path)).read().running] == [2]


def test_a_study_in_its_small_form_is_not_searched(bench):
    study = bench.study(trials=2)
    bench.search(study, "--workers", 1)
    kept = bench.path / "kept"
    bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.logs, "--keep", kept))
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    said = bench.finish(bench.start("master.py", study, "--logs", kept), code=2)
    assert said == f"error: {kept}: is a kept study; search in another folder (--logs)\n"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def worked(number, worker, start, end, state="seen"):
    """An attempt by one worker, from one second of a minute to another."""
    claim = {"claimed": worker, "host": worker.split("-")[0], "time": f"2026-01-01T00:00:{start:02d}.000Z"}
    return Trial(TrialName(number, 1, state), {"rate": 0.5}, claim=claim, finished=f"2026-01-01T00:00:{end:02d}.000Z")


def test_the_work_of_a_search_and_of_its_counted_trials():
    attempts = [worked(0, "b-1-x", 0, 10), worked(1, "a-1-x", 5, 20), worked(2, "b-2-x", 10, 50, "lost")]
    work = results_of(attempts).work
    assert (work.seconds, work.most_at_once, work.workers, work.machines) == (
        50.0, 2, ["b-1-x", "a-1-x", "b-2-x"], ["b", "a"],
    )  # fmt: skip
    assert [span.number for span in work.counted.spans] == [0, 1] and work.counted.seconds == 20.0
    instants = [worked(number, "a-1-x", 5, 5) for number in range(3)]
    assert results_of(instants).work.most_at_once == 1, "one worker's trials follow each other"
    nothing = results_of([]).work
    assert (nothing.began, nothing.seconds, nothing.most_at_once, nothing.workers) == (None, 0.0, 0, [])


def test_a_timeline_shows_workers_by_host_and_no_worker_less_that_lost_an_attempt():
    attempts = [worked(0, "b-1-x", 0, 10), worked(1, "a-1-x", 5, 20), worked(2, "c-2-x", 10, 50, "lost")]
    work = results_of(attempts).work
    assert list(work.timeline(3)) == ["a-1-x", "b-1-x", "c-2-x"]
    assert list(work.timeline(2)) == ["c-2-x", "a-1-x"]
    assert [span.number for span in work.timeline(2)["a-1-x"]] == [1]


def test_the_settings_that_vary_are_one_fact():
    space = {"rate": [0.1, 0.2], "width": [8], "kind": ["a", "b"]}
    trials = [
        Trial(
            TrialName(k, 1, "seen"),
            {"rate": [0.1, 0.2][k % 2], "width": 8, "kind": "ab"[k // 2 % 2]},
            result={"score": k},
        )
        for k in range(12)
    ]
    results = results_of(
        trials, space=space, derived={"half": "rate / 2", "area": "rate * width"}, collapsed="score > 10"
    )
    assert results.varied == ["rate", "kind"] == [*results.scores.settings]
    assert [*results.scores.derived] == ["half"], "area needs a setting that does not vary"
    assert {*results.importance.shares} == {"rate", "kind"}
    assert results.scores.numbers == [trial.name.number for trial, _ in results.scored]
    assert results.scores.collapsed.count(True) == 1 and results.scores.metric.values[0] == 0


def test_a_grid_has_a_mean_of_what_did_not_collapse():
    space = {"rate": [0.1, 0.2], "kind": ["a", "b"], "free": {"type": "float", "low": 0.0, "high": 1.0}}
    scores = {("a", 0.1): [1, 3, 99], ("b", 0.1): [99, 99], ("a", 0.2): [5]}
    settled = [(kind, rate, score) for (kind, rate), values in scores.items() for score in values]
    trials = [
        Trial(TrialName(k, 1, "seen"), {"rate": rate, "kind": kind, "free": 0.5}, result={"score": score})
        for k, (kind, rate, score) in enumerate(settled)
    ]
    results = results_of(trials, space=space, collapsed="score == 99")
    expected = {("a", 0.1): 2.0, ("a", 0.2): 5.0, ("b", 0.1): None}
    assert results.grid("kind", "rate").means == {identity(key): mean for key, mean in expected.items()}
    assert results.grid("kind", "free") is None


def test_the_cells_of_a_grid_hold_trials_that_trained_equally_long():
    space = {"rate": [0.1, 0.2], "kind": ["a", "b"]}
    rungs = [(0.1, "a", 1, 8), (0.1, "a", 9, 2), (0.2, "a", 1, 6), (0.1, "b", 1, 4), (0.2, "b", 1, 9)]
    trials = [
        Trial(TrialName(k, 1, "seen"), {"rate": rate, "kind": kind, "epochs": epochs}, result={"score": score})
        for k, (rate, kind, epochs, score) in enumerate(rungs)
    ]
    fidelity = {"setting": "epochs", "lowest": 1, "highest": 9}
    means = results_of(trials, space=space, fidelity=fidelity).grid("kind", "rate").means
    assert means == {
        identity(key): mean for key, mean in {("a", 0.1): 8, ("a", 0.2): 6, ("b", 0.1): 4, ("b", 0.2): 9}.items()
    }


def test_with_repeats_the_best_is_the_same_everywhere_and_failed_ones_count():
    """Three trials of each settings: the best single value is that of settings with a worse mean."""
    scores = {0.1: [0.1, 0.9, 0.8], 0.2: [0.2, 0.22, 0.21], 0.3: [0.15, None, None]}
    runs = [(rate, score) for rate, values in scores.items() for score in values]
    trials = [
        Trial(TrialName(k, 1, "seen"), {"rate": rate}, result=None if score is None else {"score": score},
              error="no memory" if score is None else None)
        for k, (rate, score) in enumerate(runs)
    ]  # fmt: skip
    results = results_of(trials, strategy="grid", space={"rate": [0.1, 0.2, 0.3]}, repeats=3)
    (first, *_), sample = results.best
    assert first.settings["rate"] == 0.2 and sample.mean == pytest.approx(0.21)
    assert "0.21 ± 0.01 (3 runs) with the settings of trial 3" in best_line(results)
    assert [sample.left_out for _, sample in [results.best]] == [0]
    assert '"best":3' in curves_of(replace(results, trials=trials))


def test_the_metric_is_among_the_curves_that_are_shown():
    names = ["a", "b", "c", "d", "score", "e"]
    trial = counted(0, score=1.0)
    trial.epochs = [{"epoch": epoch, **dict.fromkeys(names, 1.0)} for epoch in (9999, 12345)]
    results = results_of([trial])
    assert results.measures == names
    assert results.main_measures(3) == ["a", "b", "score"] and results.main_measures(9) == names
    assert '"0":[[9999,12345],' in curves_of(results)


def test_trials_from_before_a_value_was_fixed_lie_inside():
    trials = [counted(k, score=k) for k in range(3)]
    study = study_from_record({**RECORD, "fixed": {"clip": 1.0}}, "toy")
    study = replace(study, changes=(Change(2, ("clip",), {}, "2026-01-01T00:00:00Z", "anna"),))
    (group,) = Results.of(study, trials).groups()
    assert [trial.name.number for trial in group.trials] == [0, 1], "a person has queued the third, without it"


def test_texts_have_places_in_their_order_and_no_value_has_none():
    assert Column(Quantity("width"), [8, None, 2.5]).places == pytest.approx([8.0, math.nan, 2.5], nan_ok=True)
    mixed = Column(Quantity("kind"), ["tanh", "relu", None, "tanh"])
    assert mixed.texts == ["relu", "tanh", "–"] and mixed.places == [1.0, 0.0, 2.0, 1.0]


def test_the_median_of_runs_ends_where_the_shortest_does():
    runs = Runs((0.1,), [Curve([1, 2, 3], [9, 5, 1]), Curve([1, 2], [7, 3]), Curve([], []), Curve([1, 2], [8, 1])])
    assert runs.median == Curve([1, 2], [8, 3])


@pytest.mark.parametrize("options", [[], ["--columns"], ["--group"]])
def test_a_table_on_a_terminal_leaves_columns_out_and_cuts_none(bench, options):
    settings = {f"h{k}": 0.123456789 + k for k in range(12)}
    space = {name: {"type": "float", "low": 0.0, "high": 100.0} for name in settings}
    bench.folder.prepare()
    bench.folder.write_study({**RECORD, "space": space})
    write(bench.folder, TrialName(0, 1, "seen"), [{"settings": settings}, {"result": {"score": 0.25}}])
    options = options + [",".join(["trial", "score", *settings])] * (options == ["--columns"])
    command = ("-m", "foldertune", "results", "--logs", bench.logs, *options)
    terminal = Terminal(bench, *command)
    terminal.process.wait(timeout=60)
    terminal._reader.join(timeout=60)
    said = SHOWN.sub("", terminal.said).replace("\r", "")
    table, _, left_out = said.partition("No room for ")
    assert max(map(len, table.splitlines())) <= 80 and "0.1235" in table and "…" not in table
    assert "h11" in left_out and "--columns" in left_out and "| less -S" in left_out
    piped = bench.finish(bench.start(*command))
    assert "…" not in piped and all(f"{k}.12" in piped for k in range(12)) and "No room" not in piped
