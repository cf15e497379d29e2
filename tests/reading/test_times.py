"""Times at work: from claims to results, give-backs and last heartbeats, without the breaks between."""

from __future__ import annotations

import json
import os

from foldertune import cli
from foldertune.protocol import TrialName, parse_time
from foldertune.reading.comparison import steps_of
from foldertune.reading.reader import read_results
from foldertune.reading.terminal.live import summary
from tests.reading.test_facts import RECORD, write

MORNING = parse_time("2026-01-02T09:00:00Z")
SETTINGS = {"settings": {"rate": 0.5}}


def claimed(worker, time):
    return {"claimed": worker, "host": "h", "time": time}


def fill(folder):
    """Six minutes of work in the evening, given back at 20:06; a lost attempt; and ten seconds in the morning."""
    folder.prepare()
    folder.write_study({**RECORD, "trials": 4})
    evening = [
        SETTINGS,
        claimed("h-1-a", "2026-01-01T20:00:00Z"),
        {"given_back": "SIGINT", "time": "2026-01-01T20:06:00Z"},
    ]
    end = {"result": {"score": 1.0}, "time": "2026-01-02T09:00:10Z"}
    write(folder, TrialName(0, 2, "seen"), [*evening, claimed("h-2-a", "2026-01-02T09:00:00Z"), end])
    write(folder, TrialName(1, 2), evening)
    write(folder, TrialName(2, 1, "lost"), [SETTINGS, claimed("h-1-b", "2026-01-01T20:00:00Z")])
    write(folder, TrialName(2, 2, "seen"), [SETTINGS, claimed("h-2-b", "2026-01-02T09:00:00Z"), end])
    os.utime(folder.locate(TrialName(2, 1, "lost")), (MORNING, parse_time("2026-01-01T20:07:00Z")))


def test_what_counts_is_the_time_at_work(folder, tmp_path, capsys):
    fill(folder)
    results = read_results(folder.path)
    assert results.work.at_work == 7 * 60 + 10 and results.per_hour == 3600 * 2 / 430
    assert "7:10 elapsed" in summary(results)
    assert [trial.result["seconds"] for trial in results.trials] == [370.0, 10.0], "work on a trial given back counts"
    assert {span.worker for span in results.work.spans if span.state == "given back"} == {"h-1-a"}
    write(folder, TrialName(3, 1, "taken", "h-3-a"), [SETTINGS, claimed("h-3-a", "2026-01-02T09:00:00Z")])
    taken = folder.locate(TrialName(3, 1, "taken", "h-3-a"))
    os.utime(taken, (MORNING, MORNING + 20))
    results = read_results(folder.path)
    assert results.worked(MORNING + 50) == 7 * 60 + 50 and results.remaining(MORNING + 50) == (2 * 190 - 50)
    assert results.worked(MORNING + 9999) == 7 * 60 + 20 and results.remaining(MORNING + 9999) is None, "it is dead"
    os.utime(folder.locate(TrialName(2, 1, "lost")), (MORNING, MORNING + 9999))  # the folder was copied
    os.remove(taken)
    assert read_results(folder.path).work.at_work == 6 * 60 + 10

    kept = tmp_path / "kept"
    assert cli.run("results", ["--logs", str(folder.path), "--keep", str(kept)]) == 0
    assert [trial.result["seconds"] for trial in read_results(kept).trials] == [370.0, 10.0]
    assert any(span.state == "given back" for span in read_results(kept).work.spans)


def test_a_copied_folder_tells_no_other_times(folder):
    """A last word has a time of its own; a silent attempt ended before its trial was tried again or failed for good."""
    fill(folder)
    os.remove(folder.locate(TrialName(2, 1, "lost")))
    before = read_results(folder.path).work.at_work
    silent = [SETTINGS, claimed("h-1-b", "2026-01-01T20:00:00Z")]
    error = {"error": "boom", "time": "2026-01-01T20:06:00Z"}
    verdict = [SETTINGS, {"error": "silent", "time": "2026-01-02T09:00:00Z"}]
    write(folder, TrialName(4, 3, "lost"), [*silent, error])
    write(folder, TrialName(5, 3, "lost"), silent)
    write(folder, TrialName(5, 3, "seen"), verdict)
    write(folder, TrialName(6, 3, "lost"), silent)
    write(folder, TrialName(6, 4, "lost"), verdict)  # tried again after it had failed
    for number in (4, 5, 6):
        os.utime(folder.locate(TrialName(number, 3, "lost")), (MORNING, MORNING + 9999))
    assert read_results(folder.path).work.at_work == before


def test_every_objective_has_its_seconds(folder, capsys):
    """Sorted, filtered, in results.csv, and for expressions. What the training says itself comes first."""
    fill(folder)
    write(folder, TrialName(3, 1, "seen"), [SETTINGS, claimed("h-2-b", "2026-01-02T09:00:00Z"),
          {"result": {"score": 2.0, "seconds": 1.5}, "time": "2026-01-02T09:00:10Z"}])  # fmt: skip
    folder.write_study({**RECORD, "derived": {"minutes": "seconds / 60"}})
    options = ["--logs", str(folder.path), "--columns", "trial,seconds", "--format", "json"]
    assert cli.run("results", ["--sort", "seconds", "--where", "minutes<1", *options]) == 0
    assert json.loads(capsys.readouterr().out) == [{"trial": 3, "seconds": 1.5}, {"trial": 2, "seconds": 10.0}]
    write(folder, TrialName(4, 1, "seen"), [SETTINGS, claimed("h-1-b", "2026-01-01T20:00:00Z"),
          {"result": {"score": 3.0}, "time": "2026-01-01T20:03:00Z"}])  # fmt: skip
    assert [step.seconds for step in steps_of(read_results(folder.path))] == [180.0, 430.0, 430.0, 430.0]
    assert folder.results.read_text().splitlines()[0].startswith("trial,status,rate,score,seconds,worker")
