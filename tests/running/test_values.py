"""Whatever a training reports and returns: its result is kept, and all programs can read it."""

from __future__ import annotations

import csv
import itertools
import json
import os

import pytest

from foldertune.protocol import MAX_BYTES, Claim, TrialName, checkpoints, files, read_records, to_line
from foldertune.running.attempt import Attempt
from foldertune.running.reports import Reports
from foldertune.text import ending
from foldertune.trainer.report import Report
from tests.conftest import METRIC, Curve, wait_for

KINDS = ["values", "names", "many", "large", "wordy", "nameless signal", "murderous"]


def grid(bench, choices, objective="odd", name="kind"):
    """A grid study of one hyperparameter."""
    file = bench.path / "grid.toml"
    file.write_text(
        f'objective = "tests.objectives:{objective}"\nstrategy = "grid"\n{METRIC}[space]\n{name} = {json.dumps(choices)}\n'
    )
    return file


def test_no_metric_costs_a_result(bench):
    said = bench.search(grid(bench, KINDS), "--workers", 1, "--max-attempts", 1)
    bench.assert_complete(len(KINDS))
    log = (bench.logs / "worker-1.log").read_text()
    stories = {KINDS[name.number]: bench.folder.read(name) for name in bench.names("seen")}
    # Values that JSON can hold are kept, and the others named.
    kept = {
        "list": [1, [2.5, None]], "dict": {"1": {"a": True}}, "array": [0, 1, 2], "decimal": 0.5, "fraction": 0.25,
        "huge": None, "one": 0.5,
    }  # fmt: skip
    assert stories["values"].epochs == [{"epoch": 1, **kept}, {"epoch": 2, **kept}]
    assert stories["values"].result.pop("seconds") >= 0
    assert stories["values"].result == {"validation_error": 0.25, "7": 1, "None": 2, **kept}
    for name in ("bytes", "complex", "unprintable", "long", "deep"):
        assert log.count(f"the metric '{name}' is left out") == 2, "once for the reports, once for the result"
    assert "a name of the type Unprintable is left out" in log and "the metric '7' is left out: another" in log
    # A metric may have any name.
    names = ("trial", "claimed", "result", "error", "settings", "status", "worker")
    assert stories["names"].epochs == [{"epoch": 1, "self": 0.5, **dict.fromkeys(names, 0.5)}]
    assert stories["names"].result["claimed"] == stories["names"].result["epoch"] == 0.5
    # A file stays small enough to be read, however much is reported.
    epochs = [epoch["epoch"] for epoch in stories["many"].epochs]
    assert epochs[:30] == list(range(1, 31)) and epochs[-1] == 200 and 30 < len(epochs) < 90
    assert "so many reports" in log and "'note' is left out: it is too large" in log
    assert stories["large"].result["validation_error"] == 0.75 and "note" not in stories["large"].result
    assert stories["large"].epochs == [{"epoch": 1}]
    assert "ValueError: xxx" in stories["wordy"].error and len(stories["wordy"].error) < 20_000
    assert all(path.stat().st_size < MAX_BYTES for path in bench.folder.seen.iterdir())
    # Whatever dies is named, with what is known.
    assert "was killed by signal 35" in stories["nameless signal"].error
    assert "died after epoch 3" in stories["murderous"].error and "worker-1 was killed by signal 35" in said
    for program in ("results", "status", "report"):
        bench.finish(bench.start("-m", "foldertune", program, "--logs", bench.logs))
    with open(bench.folder.results, newline="") as file:
        row = list(csv.DictReader(file))[1]
    assert row["trial"] == "1" and row["status"] == "succeeded" and row["worker"].count("-") >= 2
    assert row["result_result_trial"] == "0.5" and row["result_trial"] == "0.25" and row["result_error"] == "0.5"


def test_a_name_that_is_no_signal():
    assert ending(-35) == "was killed by signal 35" and ending(-9).startswith("was killed by SIGKILL")


def test_a_note_about_a_metric_is_made_once():
    curve = Curve()
    said = []
    curve.say = said.append
    report = Report(curve)
    for epoch in range(3):
        report(epoch, loss=b"x", fine=1)
    assert curve.epochs == [{"epoch": k, "fine": 1} for k in range(3)] and len(said) == 1
    report(epoch=1j, loss=0.5)
    assert curve.epochs[-1] == {"epoch": None, "loss": 0.5} and next(iter(curve.epochs[-1])) == "epoch"


def test_reports_are_thinned_out_and_never_use_up_the_room(folder, pending):
    claim, said = folder.claim("me-1-abcd", iter([pending])), []
    reports = Reports(claim, lambda action: action(), said.append, room=20_000)
    for epoch in range(1, 30_001):
        reports.add({"epoch": epoch, "loss": 0.5})
    reports.close()
    epochs = [record["epoch"] for record in read_records(claim.path)[1:]]
    assert claim.written.size <= 20_000 + 100 and len(said) == 1
    assert epochs[:100] == list(range(1, 101)) and epochs[-1] == 30_000
    gaps = [after - before for before, after in itertools.pairwise(epochs)]
    assert {1, 4, 16, 64, 256} <= set(gaps) and max(gaps) < 5_000, "the whole training is there"
    reports.add({"epoch": 30_001, "note": "x" * 50_000})
    assert claim.written.size <= 20_000 + 100


def test_a_result_is_not_thrown_away_for_its_size(bench, monkeypatch):
    study = bench.study(trials=2)
    bench.folder.prepare()
    with open(bench.folder.locate(TrialName(0, 1, "done")), "wb") as file:
        file.write(to_line({"settings": {"x": 0.5}}) + to_line({"claimed": "gone-1-abcd", "host": "gone"}))
        file.writelines(to_line({"epoch": epoch, "note": "x" * 100_000}) for epoch in range(1, 201))
        file.write(to_line({"result": {"validation_error": 0.125}, "time": "2026-01-01T00:00:00Z"}))
    bench.folder.write_study(json.loads(json.dumps({"strategy": "random", "trials": 2, "metric": "validation_error",
        "objective": "tests.objectives:quick", "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}}})))  # fmt: skip
    bench.search(study, "--workers", 1)
    bench.assert_complete(2)
    assert bench.rows()[0].metrics["validation_error"] == 0.125 and bench.rows()[0].worker == "gone-1-abcd"
    for program in ("results", "status", "report"):
        assert "left out" not in bench.finish(bench.start("-m", "foldertune", program, "--logs", bench.logs))
    monkeypatch.setattr(files, "MAX_BYTES", 1000)  # a half-written line at the end of so large a file is cut off
    path = bench.folder.locate(TrialName(0, 1, "seen"))
    with open(path, "ab") as file:
        file.write(b'{"half')
    files.append_lines(path, b"{}\n")
    with open(path, "rb") as file:
        assert file.read().endswith(b'00Z"}\n{}\n')


def test_a_short_lease_loses_no_live_worker(bench):
    """Not even one with a trial that a person has queued, without a lease."""
    bench.logs.mkdir()
    (bench.logs / "trial-90000-1.jsonl").write_text('{"settings": {"x": 0.25}}\n')
    said = bench.search(bench.study(trials=1, objective="slow"), "--workers", 1, "--lease", 0.01)
    assert sorted(name.number for name in bench.names("seen")) == [0, 90000] and bench.names("lost") == []
    assert "--lease 0.01: so short a lease" in said


def test_a_grid_is_tried_whole_whatever_is_queued_by_hand(bench):
    """Two of its numbers are used by a person: its points are tried under others, also after a restart."""
    study, sizes = grid(bench, [1, 2, 3, 4, 5], "small", "size"), [1, 2, 3, 4, 5]
    bench.logs.mkdir()
    for number, size in ((1, 20), (3, 40)):
        (bench.logs / f"trial-0000{number}-1.jsonl").write_text(f'{{"settings": {{"size": {size}}}}}\n')
    said = bench.search(study, "--workers", 1)
    tried = {row.trial: row.settings["size"] for row in bench.rows()}
    assert tried == {0: 1, 1: 20, 2: 3, 3: 40, 4: 5, 5: 2, 6: 4}, said
    assert said.count("whose number a person has used") == 2
    bench.search(study, "--workers", 1)
    assert sorted(row.settings["size"] for row in bench.rows()) == sorted([*sizes, 20, 40])


# ---- checkpoints


class Heard:
    """A trainer that keeps what it is told."""

    saves_state = False

    def __init__(self):
        self.data, self.told = b"state", []

    def send(self, message, data=b""):
        self.told.append((message["checkpoint"], data))


@pytest.fixture
def attempt(folder, pending):
    """Makes an attempt at the folder's one trial, for a study."""
    claim = folder.claim("me-1-abcd", iter([pending]))
    said = []

    def make(**study):
        study = {"name": "toy", "objective": "mine:train", "metric": "loss", "trials": 3, **study}
        again = Attempt(
            Claim(folder, claim.name), claim.read(), ["loss"], study, Heard(), lambda action: action(), said.append
        )
        again.said = said
        return again

    (folder.path / "checkpoints").mkdir()
    return make


def test_a_checkpoint_too_large_is_named_when_it_is_written(folder, attempt, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_CHECKPOINT", 500)
    first = attempt()
    first.receive({"checkpoint": True})
    first._trainer.data = b"x" * 1000
    first.receive({"checkpoint": True})
    assert len(first.said) == 1 and "no checkpoint: " in first.said[0] and "more than the 500" in first.said[0]
    again = attempt()
    again.receive({"resume": True})
    assert [data for _, data in again._trainer.told] == [b"state"], "the one before is still there"


def test_only_checkpoints_of_the_same_study_are_resumed(attempt):
    attempt().receive({"checkpoint": True})

    def resumed(**study):
        again = attempt(**study)
        again.receive({"resume": True})
        return again._trainer.told[0][1]

    assert resumed() == resumed(trials=9, description="more") == b"state"
    assert resumed(name="other") == resumed(objective="other:train") == resumed(metric="other") == b""


# ---- what a person put there


def test_a_hand_in_replaces_nothing(folder, pending, monkeypatch):
    monkeypatch.setattr("foldertune.protocol.folder.A_MOMENT", 0.0)
    claim = folder.claim("me-1-abcd", iter([pending]))
    claim.append({"claimed": "me-1-abcd"})
    done = folder.locate(pending.to("done"))
    with open(done, "wb") as file:
        file.write(b"a person's\n")
    claim.finish({"result": {"loss": 0.5}})
    assert folder.read(pending.to("done")).result == {"loss": 0.5}
    assert [path.read_bytes() for path in folder.aside.iterdir()] == [b"a person's\n"]


def test_a_trial_beside_a_done_of_its_name_is_not_claimed(folder, pending):
    """The hand-in follows the claim within a moment, and would replace what a person had put there before."""
    os.mkfifo(folder.locate(pending.to("done")))
    assert not list(folder.candidates("me-1-abcd"))
    folder.set_aside(folder.locate(pending.to("done")))
    assert list(folder.candidates("me-1-abcd")) == [pending]


def test_neither_does_giving_back_or_publishing(folder, pending):
    after = pending.next_attempt()
    assert folder.publish(after, {"x": 1}, lease=5.0) and not folder.publish(after, {"x": 2}, lease=5.0)
    claim = folder.claim("me-1-abcd", iter([pending]))
    claim.give_back("SIGTERM")
    assert folder.read(after).settings == {"x": 0.5}
    [aside] = folder.aside.iterdir()
    assert json.loads(aside.read_text())["settings"] == {"x": 1}


def test_a_directory_in_the_way_of_the_end_is_set_aside(bench):
    bench.master(bench.study(trials=1))
    wait_for(lambda: bench.names("pending"), "the trial")
    (bench.logs / "study.json.done" / "inside").mkdir(parents=True)
    bench.finish(bench.worker())
    bench.finish(bench.processes[0])
    bench.assert_complete(1)
    assert [path.name for path in bench.folder.aside.iterdir()] == ["study.json.done.1"]
