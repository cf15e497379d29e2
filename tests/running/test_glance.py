"""Nothing is believed at one glance: a client's cache may hide a result, a file, a new name."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from types import SimpleNamespace

import pytest

from foldertune.protocol import Claim, LeaseLost, Trial, TrialName, read_bytes, to_line
from foldertune.protocol import folder as folder_module
from foldertune.protocol.files import append_lines, is_there, rename
from foldertune.running import watch
from foldertune.running.master import Master
from foldertune.study_file import load_study
from tests.conftest import ROOT, wait_for

LEASE = 1.0
SETTINGS = {"x": 0.5}

# A client's cache in a program that imports this at its start: it goes on to answer the old name of a renamed file.
OLD_NAME_STAYS = """
import os
stat = os.stat
def cached(path, *args, **kwargs):
    try:
        return stat(path, *args, **kwargs)
    except FileNotFoundError:
        if str(path).endswith("/study.json"):
            return stat(f"{path}.done", *args, **kwargs)
        raise
os.stat = os.lstat = cached
"""


@pytest.fixture
def master(bench):
    bench.folder.prepare()
    said = []
    master = Master(bench.folder, load_study(bench.study(trials=1)), LEASE, max_attempts=3, say=said.append)
    master.said = said
    master.take_stock()
    master.step()
    return master


def taken(bench):
    """A trial that a worker has trained, but whose last line is not there yet."""
    claim = bench.folder.claim("far-1-abcd", bench.folder.candidates("far-1-abcd"))
    claim.append({"claimed": "far-1-abcd", "host": "far"})
    return claim


def test_a_result_that_a_cache_hides_for_a_moment_counts(bench, master):
    claim = taken(bench)
    claim.hand_in()
    master.step()
    master.step()
    assert [str(name) for name in bench.folder.names()] == ["trial-00000-1.jsonl.done"], master.said
    append_lines(str(bench.logs / "trial-00000-1.jsonl.done"), to_line({"result": {"validation_error": 0.25}}))
    master.step()
    assert master.ledger.counted[0].result == {"validation_error": 0.25} and master.said == []


@pytest.mark.parametrize(("lease", "seconds"), [(8.0, 4.0), (180.0, 5.0)])
def test_a_file_is_in_doubt_for_longer_than_a_cache_may_be_old(folder, monkeypatch, lease, seconds):
    """A lease is right if a cache is no older than a third of it."""
    now = [100.0]
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    master, name = watch.Watch(folder, lease), TrialName(0, 1, "done")
    assert master.is_in_doubt(name)
    now[0] += seconds - 0.1
    assert master.is_in_doubt(name)
    now[0] += 0.2
    assert not master.is_in_doubt(name)


def test_a_result_that_is_not_there_is_not_waited_for_for_ever(bench, master):
    taken(bench).hand_in()
    wait_for(lambda: [master.step()] and master.said, "the master to believe it")
    assert master.said == ["trial 0: handed in without a result"]
    assert [str(name) for name in bench.names("lost")] == ["trial-00000-1.jsonl.lost"]


def test_a_collected_result_that_a_cache_cuts_short_is_opened_again(bench, master, monkeypatch):
    claim = taken(bench)
    claim.finish({"result": {"validation_error": 0.25}})
    master.step()
    [seen] = bench.names("seen")
    read, glances = bench.folder.read, []

    def old(name, **options):
        if name == seen and len(glances) < 2:
            glances.append(name)
            return Trial.from_records(name, [{"settings": SETTINGS}], bench.folder.locate(name))  # raises BrokenFile
        return read(name, **options)

    again = Master(bench.folder, master.study, LEASE, max_attempts=3, say=master.said.append)
    monkeypatch.setattr(bench.folder, "read", old)
    again.take_stock()
    assert len(glances) == 2 and master.said == [] and list(again.ledger.counted) == [0]


def test_a_starting_master_waits_for_results_that_its_table_knows(bench):
    study = bench.study(trials=6)
    bench.search(study, "--workers", 1)
    hidden = bench.path / "hidden"
    hidden.mkdir()
    away = ["trial-00002-1.jsonl.seen", "trial-00004-1.jsonl.seen"]
    for name in away:
        os.rename(bench.folder.seen / name, hidden / name)
    table = bench.folder.results.read_text()
    # A part of the file server is away: the master waits, says so, and leaves all as it is when it is stopped.
    master = bench.master(study, "--workers", 1)
    said = master.stdout.readline()
    expected = (
        f"{bench.folder.seen} lacks 2 results of {bench.folder.results}, such as {away[0]}; if you have removed them"
    )
    assert expected in said, said
    master.send_signal(signal.SIGTERM)
    bench.finish(master, 128 + signal.SIGTERM)
    assert bench.folder.results.read_text() == table and len(bench.names("seen")) == 4
    # It comes back: nothing is trained again.
    master = bench.master(study, "--workers", 1)
    assert "lacks" in master.stdout.readline()
    for name in away:
        os.rename(hidden / name, bench.folder.seen / name)
    bench.finish(master)
    assert bench.folder.results.read_text() == table and len(bench.names("lost")) == 0
    bench.assert_complete(6)
    # A person has removed it, and the table: it is trained again.
    os.unlink(bench.folder.seen / away[0])
    os.unlink(bench.folder.results)
    bench.search(study, "--workers", 1)
    bench.assert_complete(6)


def test_a_result_that_only_a_listing_lacks_is_found_by_its_name(bench, master, monkeypatch):
    taken(bench).finish({"result": {"validation_error": 0.25}})
    master.step()
    master.write_results()
    settled = bench.folder.settled
    monkeypatch.setattr(bench.folder, "settled", lambda: settled()[1:])
    again = Master(bench.folder, master.study, LEASE, max_attempts=3, say=master.said.append)
    again.take_stock()
    assert list(again.ledger.counted) == [0] and master.said == []


def test_trouble_in_the_middle_of_taking_stock_sets_nothing_aside(bench, master, monkeypatch):
    taken(bench).finish({"result": {"validation_error": 0.25}})
    master.step()
    again = Master(bench.folder, master.study, LEASE, max_attempts=3, say=master.said.append)
    with monkeypatch.context() as patch:
        patch.setattr(again.supply.__class__, "take_stock", lambda self: os.stat(bench.logs / "gone"))
        with pytest.raises(FileNotFoundError):
            again.take_stock()
    again.take_stock()
    assert list(again.ledger.counted) == [0] and master.said == [] and len(bench.names("seen")) == 1


def test_workers_end_though_a_cache_goes_on_to_answer_the_old_name(bench):
    (bench.path / "sitecustomize.py").write_text(OLD_NAME_STAYS)
    study = bench.study(trials=1)
    bench.search(study, "--workers", 1)
    worker = bench.worker(env=os.environ | {"PYTHONPATH": f"{bench.path}{os.pathsep}{ROOT}"})
    assert "nothing more to do" in bench.finish(worker)


def test_a_study_that_comes_after_the_first_look_is_found(bench, monkeypatch):
    """As on NFS: that a name is not there is answered for a minute, unless a listing shows a change of its directory."""
    missing, real_open, real_listdir = set(), os.open, os.listdir

    def cached_open(path, *arguments, **options):
        if str(path) in missing:
            raise FileNotFoundError(errno.ENOENT, "a cache says that it is not there", path)
        try:
            return real_open(path, *arguments, **options)
        except FileNotFoundError:
            missing.add(str(path))
            raise

    def listdir(path):
        missing.difference_update([name for name in missing if os.path.dirname(name) == str(path)])
        return real_listdir(path)

    monkeypatch.setattr(os, "open", cached_open)
    monkeypatch.setattr(os, "listdir", listdir)
    assert bench.folder.read_study() is None
    bench.folder.prepare()
    (bench.logs / "study.json").write_text('{"name": "toy"}')
    bench.folder.read_study()
    assert bench.folder.read_study() == {"name": "toy"}


def test_the_end_is_not_hidden_by_a_change_in_the_same_tick(bench):
    """NFS 3: whoever listed the folder just before sees the end only if the folder's time has changed since."""
    bench.search(bench.study(trials=1), "--workers", 1)
    assert bench.logs.stat().st_mtime - (bench.logs / "study.json.done").stat().st_ctime > 0.02


def test_a_trial_is_not_hidden_by_a_change_in_the_same_tick(bench):
    """NFS 3: workers that all wait would see a pending trial only after the next change in the folder."""
    bench.master(bench.study(trials=1))
    wait_for(lambda: bench.names("pending"))
    pending = (bench.logs / "trial-00000-1.jsonl").stat().st_ctime
    wait_for(lambda: bench.logs.stat().st_mtime - pending > 0.02, "the folder's time to change")


def test_a_last_word_that_was_written_although_an_error_came_is_not_lost(folder, pending, monkeypatch):
    """The file server went away with its answer, for so long that the master has collected the result meanwhile."""
    claim, result = folder.claim("w-1-abcd", iter([pending])), {"result": {"loss": 1.0}}
    claim.append({"claimed": "w-1-abcd"})
    write = folder_module.append_lines

    def write_and_fail(*arguments, **options):
        write(*arguments, **options)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folder_module, "append_lines", write_and_fail)
    with pytest.raises(OSError, match="Input"):
        claim.say_last_word(result)
    monkeypatch.setattr(folder_module, "append_lines", write)
    assert folder.collect(claim.name)
    claim.say_last_word(result)
    claim.finish(result)
    folder.publish(TrialName(8, 1), {}, lease=5.0)
    other = folder.claim("w-2-abcd", iter([TrialName(8, 1)]))
    folder.lose(other.name)
    with pytest.raises(LeaseLost):
        other.say_last_word(result)


def test_a_hand_in_that_seems_to_have_failed_is_looked_for(bench, master, monkeypatch):
    claim = taken(bench)
    claim.append({"result": {"validation_error": 0.25}}, sync=True)
    os.rename(claim.path, claim.path.replace(".far-1-abcd.taken", ".done"))  # the reply was lost
    master.step()
    assert len(bench.names("seen")) == 1
    read, glances = bench.folder.read, []

    def late(name, **options):
        glances.append(name.state)
        if len(glances) < 4:
            raise FileNotFoundError(errno.ENOENT, "a cache says that it is not there")
        return read(name, **options)

    monkeypatch.setattr(bench.folder, "read", late)
    claim.hand_in()
    assert glances.count("seen") == 2


def test_a_hand_in_that_came_too_late_ends_at_once(bench, master, monkeypatch):
    claim = taken(bench)
    assert bench.folder.lose(claim.name)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits") if seconds else None)
    with pytest.raises(LeaseLost):
        Claim(bench.folder, claim.name).hand_in()


def test_only_enoent_means_not_there(tmp_path, folder):
    assert not is_there(tmp_path / "nothing")
    too_long = str(tmp_path / ("x" * 300))
    assert not os.path.lexists(too_long), "Python's own function hides every error"
    with pytest.raises(OSError, match="too long"):
        is_there(too_long)
    with pytest.raises(OSError, match="too long"):
        rename(str(tmp_path / "nothing"), too_long)


def test_programs_do_not_ask_in_ways_that_hide_errors():
    hiding = re.compile(r"os\.path\.(l?exists|isfile|isdir|islink|ismount)\(")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "foldertune").rglob("*.py")
        for line in path.read_text().splitlines()
        if hiding.search(line)
    ]
    assert found == []


def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(folder, pending, monkeypatch):
    """GlusterFS was seen to say so for two seconds, 200 times, while two processes of one host read."""
    real, stale_until, stale = os.open, time.monotonic() + 0.5, []

    def replaced(path, *args, **options):
        if time.monotonic() < stale_until:
            stale.append(path)
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return real(path, *args, **options)

    path = folder.locate(pending)
    monkeypatch.setattr(os, "open", replaced)
    append_lines(path, b"{}\n")
    stale_until = time.monotonic() + 0.5
    assert read_bytes(path).endswith(b"}\n{}\n") and 2 <= len(stale) < 50


# ---- a file server that is away: GlusterFS says of the files there that they do not exist


@pytest.mark.parametrize("name", ["", "seen/trial-00000-1.jsonl.lost", "trial-00000-2.jsonl", "study.json.done"])
def test_a_claim_is_lost_when_the_folder_shows_why(bench, master, name):
    claim, away = taken(bench), bench.path / "away"
    os.rename(claim.path, away)
    if name:
        (bench.logs / name).write_text('{"settings": {"x": 0.5}}\n')
    expected = LeaseLost if name else FileNotFoundError
    for action in (
        claim.read,
        claim.beat,
        claim.hand_in,
        lambda: claim.append({"epoch": 1}),
        lambda: claim.save_checkpoint(SETTINGS, b"state"),
        lambda: claim.give_back("SIGTERM"),
    ):
        with pytest.raises(expected):
            action()
    if not name:
        os.rename(away, claim.path)
        claim.finish({"result": {"validation_error": 0.25}})
        master.step()
        assert master.ledger.counted[0].result == {"validation_error": 0.25} and not bench.names("lost")


def test_a_trial_whose_file_server_is_away_is_trained_on(bench):
    output, away = bench.path / "worker.txt", bench.path / "away"
    master = bench.master(bench.study(trials=1, objective="slow"))
    worker = bench.worker("slow", stdout=output.open("w"))
    [path] = wait_for(lambda: list(bench.logs.glob("*.taken")), "the claim")
    path.rename(away)
    wait_for(lambda: "nothing shows what became of it" in output.read_text(), "the worker to notice")
    away.rename(path)
    bench.finish(worker)
    bench.finish(master)
    bench.assert_complete(1)
    assert "the folder works again" in output.read_text() and bench.rows()[0].attempt == 1


def test_a_study_json_that_is_away_is_waited_for(bench):
    output, away = bench.path / "master.txt", bench.path / "away"
    bench.search(bench.study(trials=2), "--workers", 1)
    bench.folder.study_done.rename(away)
    master = bench.master(bench.study(trials=3), "--workers", 1, stdout=output.open("w"))
    wait_for(lambda: "holds trials but no study.json; waiting" in output.read_text(), "the master to notice")
    away.rename(bench.folder.study_done)
    bench.finish(master)
    bench.assert_complete(3)
    assert "error:" not in output.read_text()
