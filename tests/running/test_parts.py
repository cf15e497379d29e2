"""The folder is shared: what stands in it may be anything. Nothing outside it is read, written or removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foldertune.protocol import LAST_ATTEMPT, BrokenFile, LeaseLost, TrialName, make_directory, to_line, writer_of
from foldertune.protocol.names import master_draft_name, master_number, written_name
from foldertune.protocol.owners import is_own
from foldertune.running.master import Master
from foldertune.study_file import load_study
from tests.conftest import ROOT, wait_for

RESULT = {"result": {"validation_error": 0.5}}


@pytest.fixture
def elsewhere(bench):
    """A person's own directory, outside the folder."""
    path = bench.path / "elsewhere"
    path.mkdir()
    for name in ("trial-00000-1.checkpoint", "trial-00001-1.jsonl.seen", ".study.json.far-1-0badcafe.tmp", "notes"):
        (path / name).write_text(name)
    return path


@pytest.fixture
def master(bench):
    bench.folder.prepare()
    said = []
    master = Master(bench.folder, load_study(bench.study(trials=2)), 1.0, max_attempts=3, say=said.append)
    master.said = said
    master.take_stock()
    master.step()
    return master


def exchange(part, elsewhere):
    """Put a link where a directory of the folder was. Returns a function that undoes it."""
    hidden = part.with_name(f"hidden-{part.name}")
    if part.exists():
        part.rename(hidden)
    part.symlink_to(elsewhere)

    def undo():
        part.unlink()
        if hidden.exists():
            hidden.rename(part)

    return undo


def contents(directory):
    return {path.name: path.read_text() for path in directory.iterdir()}


def claim(bench, owner="far-1-abcd"):
    claim = bench.folder.claim(owner, bench.folder.candidates(owner))
    claim.append({"claimed": owner, "host": "far"})
    return claim


def test_seen_is_exchanged_for_a_link_while_the_study_runs(bench, master, elsewhere):
    before = contents(elsewhere)
    claim(bench).finish(RESULT)
    undo = exchange(bench.folder.seen, elsewhere)
    with pytest.raises(NotADirectoryError, match="seen"):
        wait_for(master.step)
    with pytest.raises(NotADirectoryError):
        bench.folder.settled()
    with pytest.raises(NotADirectoryError):
        bench.folder.record_failure(TrialName(1, 1), {}, ["died"])
    with pytest.raises(NotADirectoryError):
        bench.folder.read(TrialName(1, 1, "seen"))
    assert contents(elsewhere) == before
    undo()
    master.step()
    assert list(master.ledger.counted) == [0] or list(master.ledger.counted) == [1]
    assert master.said == []


def test_checkpoints_are_exchanged_for_a_link_while_the_study_runs(bench, master, elsewhere):
    before = contents(elsewhere)
    mine = claim(bench)
    exchange(bench.folder.checkpoints, elsewhere)
    with pytest.raises(NotADirectoryError, match="is not a directory of this folder"):
        mine.save_checkpoint({"x": 0.5}, b"state")
    assert list(mine.load_checkpoints({"x": 0.5})) == []
    mine.finish(RESULT)
    claim(bench).finish(RESULT)
    wait_for(lambda: [master.step()] and master.is_done())
    master.conclude()
    assert contents(elsewhere) == before
    [said] = master.said
    assert said.startswith("no checkpoint is removed") and str(bench.folder.checkpoints) in said


def test_what_a_training_prints_and_keeps_goes_into_no_link(bench, master, elsewhere):
    before = contents(elsewhere)
    mine = claim(bench)
    for part in (bench.folder.output, bench.folder.out, bench.folder.aside):
        exchange(part, elsewhere)
    with pytest.raises(NotADirectoryError):
        mine.keep_output(b"epoch 1\n")
    with pytest.raises(BrokenFile, match=r"out: is not a directory"):
        mine.make_out()
    with pytest.raises(NotADirectoryError):
        bench.folder.set_aside(mine.path)
    assert contents(elsewhere) == before and os.path.lexists(mine.path)


def test_a_worker_names_what_stands_in_the_way_and_goes_on(bench, elsewhere):
    """Its command can't have its directory: that attempt fails with the reason. Its output is not kept: it says so."""
    before = contents(elsewhere)
    file = bench.path / "study.toml"
    file.write_text(
        'objective = "command"\nstrategy = "grid"\nmetric = "loss"\n[space]\nx = { type = "categorical", choices = [1] }\n'
    )
    exchange_part = bench.logs / "out"
    bench.folder.prepare()
    (bench.logs / "output").symlink_to(elsewhere)
    command = ["--command", "sh -c 'echo hello; echo {{\"loss\": 0.5}}; ls {out}'"]
    master = bench.start("master.py", file, "--logs", bench.logs, "--workers", 0, "--max-attempts", 1, *command)
    said = bench.finish(master, 2)
    assert f"{bench.folder.output}: is not a directory of this folder; move it away" in said
    (bench.logs / "output").unlink()
    master = bench.start("master.py", file, "--logs", bench.logs, "--workers", 0, "--max-attempts", 1, *command)
    wait_for(lambda: bench.names("pending"))
    exchange_part.symlink_to(elsewhere)
    (bench.logs / "output").symlink_to(elsewhere)
    worker = bench.start("worker.py", "--logs", bench.logs, *command)
    bench.finish(master, 3)
    bench.finish(worker)
    exchange_part.unlink()
    (bench.logs / "output").unlink()
    [row] = bench.rows()
    assert row.error == f"{exchange_part}: is not a directory of this folder; move it away"
    assert contents(elsewhere) == before


def test_a_pending_trial_with_a_second_name_elsewhere_costs_only_its_attempt(bench):
    """Whatever would be appended to it would also stand in that other file."""
    study = bench.study(trials=2)
    bench.folder.prepare()
    outside = bench.path / "precious.jsonl"
    outside.write_bytes(to_line({"settings": {"x": 0.25}}))
    os.link(outside, bench.logs / "trial-00005-1.jsonl")
    bench.search(study, "--workers", 1, "--lease", "1")
    assert outside.read_bytes() == to_line({"settings": {"x": 0.25}})
    row = next(row for row in bench.rows() if row.trial == 5)
    assert row.attempt == 2 and row.metrics["validation_error"] == 0.25


def test_a_running_trial_exchanged_for_a_second_name_of_a_file_elsewhere_is_not_ours(bench, master):
    mine = claim(bench)
    mine.append({"epoch": 1})
    os.link(mine.path, bench.path / "backup")  # of our own file: we go on
    mine.append({"epoch": 2})
    outside = bench.path / "precious.jsonl"
    outside.write_text("precious\n")
    os.unlink(mine.path)
    os.link(outside, mine.path)
    with pytest.raises(LeaseLost):
        mine.append({"epoch": 3})
    assert outside.read_text() == "precious\n"


def test_the_study_ends_whatever_becomes_of_its_definition(bench, master):
    claim(bench).finish(RESULT)
    claim(bench).finish(RESULT)
    wait_for(lambda: [master.step()] and master.is_done())
    bench.folder.study.mkdir()
    with pytest.raises(BrokenFile, match=r"study\.json: is not a file; move it away"):
        master.conclude()
    assert bench.folder.study.is_dir() and not bench.folder.study_done.exists()
    bench.folder.study.rmdir()
    master.conclude()
    assert bench.folder.read_study() == master.study.to_record() and bench.folder.study_done.is_file()


def test_the_last_number_of_an_attempt_is_the_last_attempt(bench):
    study = bench.study(trials=1, objective="moody")
    bench.folder.prepare()
    name = TrialName(3, LAST_ATTEMPT)
    (bench.logs / str(name)).write_bytes(to_line({"settings": {"x": 0.75}}))
    bench.search(study, "--workers", 1, "--max-attempts", 3)
    row = next(row for row in bench.rows() if row.trial == 3)
    assert row.attempt == LAST_ATTEMPT and "which I don't like" in row.error


def test_foreign_temporary_files_are_not_ours():
    ours = [
        "results.csv",
        "study.json",
        "trial-00007-2.jsonl.seen",
        "trial-00007-2.checkpoint",
        ".master-00001.jsonl",
        "launch",
    ]
    for name in ours:
        assert writer_of(f".{name}.far-1-0badcafe.tmp") == "far-1-0badcafe"
        assert written_name(f".{name}.far-1-0badcafe.tmp") == name
    draft = master_draft_name(3)
    assert is_own(writer_of(draft)) and written_name(draft) == ".master-00003.jsonl" and master_number(draft) is None
    for text in (
        ".master-thesis.far-1-0badcafe-tmp",
        ".results.csv.far-1-0badcafe-tmp",
        ".x.far-1-0badcafe.tmp",
        ".results.csv.alice.tmp",
        ".study.json.far-1-x.tmp",
        ".notes.far-1-0badcafe.tmp",
    ):
        assert writer_of(text) is None and written_name(text) is None


def test_a_directory_that_several_make_at_once_is_made(tmp_path):
    """And where nothing can be made, that is an error, not an attempt without end."""
    code = "import sys; from pathlib import Path; from foldertune.protocol import make_directory\n"
    code += "for k in range(300): make_directory(Path(sys.argv[1]) / str(k) / 'a' / 'b')"
    several = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT) for _ in range(4)]
    assert [each.wait() for each in several] == [0] * 4
    with pytest.raises(FileNotFoundError):
        make_directory(Path("/proc/nobody/makes/this"))
