"""The facts of one object agree with each other, whatever the folder shows at the moment."""

from __future__ import annotations

import pytest

from foldertune.protocol import Folder, Trial, TrialName, to_line
from foldertune.reading.archive import open_study
from foldertune.reading.findings import say_best
from foldertune.reading.reader import Reader
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import best_line
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
    assert said == f"error: {kept}: is a finished study in its small form; search in another folder (--logs)\n"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


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
