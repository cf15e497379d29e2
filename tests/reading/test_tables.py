"""Tables, status and pictures, as people read them."""

from __future__ import annotations

import csv
import io
import json
import os
import random

import pytest

from foldertune.protocol import Folder, Trial, TrialName, to_line
from foldertune.reading.results import Results
from foldertune.reading.words import clock
from foldertune.rows import Row, columns, results_csv
from foldertune.study_file import study_from_record
from tests.conftest import ROOT

STUDY = {
    "name": "toy", "strategy": "random", "trials": 30, "metric": "validation_error", "fixed": {"epochs": 3},
    "space": {"learning_rate": {"type": "float", "low": 0.0, "high": 1.0}},
}  # fmt: skip


def fill(bench, count=20, metric=lambda k: 0.5 - k / 100):
    """A study under way: collected trials, one failed, one diverged, one running, one pending, one lost."""
    folder: Folder = bench.folder
    folder.seen.mkdir(parents=True)
    folder.write_study(STUDY)
    for k in range(count):
        lines = [
            {"settings": {"learning_rate": k / 100, "seed": k, "epochs": 3}, "lease": 180},
            {"claimed": f"gpu0{k % 2}-{k % 2}-abcd", "host": f"gpu0{k % 2}", "time": f"2026-01-01T00:{k:02d}:00.000Z"},
            *({"epoch": e, "training_loss": 2.0 / e + k / 50, "validation_loss": 1 / e} for e in (1, 2, 3)),
            {"result": {"validation_error": metric(k), "seconds": 30.0 + k}, "time": f"2026-01-01T00:{k:02d}:45.000Z"},
        ]
        with open(folder.locate(TrialName(k, 1, "seen")), "wb") as file:
            file.write(b"".join(map(to_line, lines)))
    folder.record_failure(TrialName(count, 3), {"learning_rate": 0.9, "seed": 1, "epochs": 3}, ["out of memory"] * 3)
    folder.publish(TrialName(count + 1, 1), {"learning_rate": 0.8, "epochs": 3}, lease=180)
    claim = folder.claim("gpu01-1-abcd", iter([TrialName(count + 1, 1)]))
    claim.append({"claimed": "gpu01-1-abcd", "host": "gpu01", "time": "2026-01-01T00:30:00.000Z"})
    claim.append({"epoch": 2, "training_loss": 0.25})
    folder.publish(TrialName(count + 2, 1), {"learning_rate": 0.7, "epochs": 3}, lease=180)


def run(bench, program, *arguments, code=0):
    return bench.finish(bench.start("-m", "foldertune", program, "--logs", bench.logs, *arguments), code)


def test_the_best_are_shown_first(bench):
    fill(bench)
    said = run(bench, "results", "--best", 3)
    lines = [line.split() for line in said.splitlines()]
    assert [line[0] for line in lines if line and line[0].isdigit()][:3] == ["19", "18", "17"]
    assert "3 of 21 trials, lowest validation_error first" in said and "1 failed" in said and "results.csv" in said
    assert max(map(len, said.splitlines()[:8])) <= 80


def test_all_formats_say_the_same(bench):
    fill(bench)
    table = list(csv.DictReader(io.StringIO(run(bench, "results", "--all", "--format", "csv"))))
    objects = json.loads(run(bench, "results", "--all", "--format", "json"))
    assert len(table) == len(objects) == 21
    assert (
        [row["trial"] for row in table]
        == [str(row["trial"]) for row in objects]
        == [*map(str, range(19, -1, -1)), "20"]
    )
    assert [float(row["validation_error"]) for row in table[:-1]] == [row["validation_error"] for row in objects[:-1]]
    assert objects[-1]["status"] == "failed" and objects[-1]["error"] == "out of memory"
    markdown = run(bench, "results", "--best", 2, "--format", "markdown").splitlines()
    assert (
        len(markdown) == 4 and markdown[2].startswith("| 19 | 0.31 |") and {line.count("|") for line in markdown} == {6}
    )


def test_results_csv_is_rebuilt_exactly(bench):
    fill(bench)
    run(bench, "results")
    before = bench.folder.results.read_bytes()
    header, first = before.decode().splitlines()[:2]
    assert header == (
        "trial,status,learning_rate,seed,epochs,validation_error,seconds,worker,host,attempt,claimed,finished,error"
    )
    assert first == (
        "0,succeeded,0.0,0,3,0.5,30.0,gpu00-0-abcd,gpu00,1,2026-01-01T00:00:00.000Z,2026-01-01T00:00:45.000Z,"
    )
    bench.folder.results.unlink()
    run(bench, "results")
    assert bench.folder.results.read_bytes() == before


def test_a_metric_or_setting_with_the_name_of_another_column_keeps_its_own():
    row = Row(1, "succeeded", {"seed": 1, "status": "x", "worker": 2}, {"seed": 9, "error": 0.5, "loss": 1}, host="h")
    assert columns([row]) == [
        "trial", "status", "seed", "setting_status", "setting_worker", "result_seed", "result_error", "loss",
        "worker", "host", "attempt", "claimed", "finished", "error",
    ]  # fmt: skip
    (cells,) = csv.DictReader(io.StringIO(results_csv([row])))
    assert cells["seed"] == "1" and cells["result_seed"] == "9" and cells["result_error"] == "0.5"
    assert cells["setting_status"] == "x" and cells["status"] == "succeeded"


def test_the_ranking_puts_what_has_no_value_last():
    values = [0.3, None, float("nan"), 0.1, 0.2, "x"]
    trials = [Trial(TrialName(k, 1, "seen"), {}, result={"m": value}) for k, value in enumerate(values)]

    def ranking(direction):
        results = Results.of(study_from_record({**STUDY, "metric": "m", "direction": direction}, "x"), trials)
        return [trial.name.number for trial in results.ranking]

    assert ranking("minimize") == [3, 4, 0, 1, 2, 5]
    assert ranking("maximize") == [0, 4, 3, 1, 2, 5]


def test_a_broken_file_is_named_and_left_out(bench):
    fill(bench)
    path = bench.folder.locate(TrialName(4, 1, "seen"))
    with open(path, "w") as file:
        file.write("nonsense\n")
    said = run(bench, "results", "--all", "--format", "csv")
    assert f"left out: {path}: line 1 is not JSON" in said and len(said.splitlines()) == 22


def test_status_says_how_far_it_is_and_who_does_what(bench):
    fill(bench)
    said = run(bench, "status")
    for wanted in ("21 of 30 trials", "1 pending, 1 running, 20 succeeded, 1 failed", "best: validation_error 0.31 in trial 19",
                   "gpu01-1-abcd", "2/3", "training_loss 0.25"):  # fmt: skip
        assert wanted in said, said
    assert "…" not in said, "nothing is cut where there is no terminal"


def test_watch_ends_with_the_study(bench):
    fill(bench, count=3)
    process = bench.start("-m", "foldertune", "status", "--watch", "--logs", bench.logs)
    assert "4 of 30" in process.stdout.readline()
    bench.folder.complete_study({})
    assert "complete" in bench.finish(process)


@pytest.mark.parametrize("program", ["results", "status", "report"])
def test_a_folder_without_a_study(bench, program):
    said = run(bench, program, code=2)
    assert "no study there" in said and "python master.py --logs" in said and said.count("\n") == 1


@pytest.mark.parametrize("program", ["results", "status", "report"])
def test_a_study_that_has_just_begun(bench, program):
    bench.folder.seen.mkdir(parents=True)
    bench.folder.write_study(STUDY)
    run(bench, program)


def test_hostile_text_reaches_no_terminal_as_a_command(bench):
    fill(bench, count=2)
    path = bench.folder.locate(TrialName(0, 1, "seen"))
    with open(path, "rb") as file:
        text = file.read().replace(b'"host": "gpu00"', b'"host": "[red]\\u001b[2J\\udc80$x_{"')
    with open(path, "wb") as file:
        file.write(text)
    for program in ("results", "status", "report"):
        said = run(bench, program)
        assert "\x1b" not in said
    assert "[red]" in run(bench, "results")


def test_clock():
    assert [clock(s) for s in (None, 0, 59.6, 65, 3600, 7265)] == ["–", "0:00", "1:00", "1:05", "1:00:00", "2:01:05"]


def test_readers_disturb_nothing(bench):
    """Status and results are read again and again while a search runs."""
    seed = random.randrange(1000)
    print(f"seed {seed}")
    master = bench.master(bench.study(trials=30, objective="brief", seed=seed), "--workers", 2)
    while master.poll() is None:
        for program in ("status", "results"):
            process = bench.start("-m", "foldertune", program, "--logs", bench.logs)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0 or "no study there" in said, said
    bench.finish(master)
    bench.assert_complete(30)


def test_output_into_a_closed_pipe_is_no_traceback(bench):
    fill(bench)
    read, write = os.pipe()
    os.close(read)
    process = bench.start("-m", "foldertune", "results", "--all", "--format", "csv", stdout=write, stderr=-1, cwd=ROOT)
    os.close(write)
    _, complaint = process.communicate(timeout=60)
    assert "Traceback" not in complaint
