"""The protocol, through its real files."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re

import pytest

from foldertune.protocol import (
    BrokenFile,
    Claim,
    Folder,
    LeaseLost,
    TrialName,
    append_lines,
    files,
    new_owner,
    read_records,
    to_line,
    write_whole,
)
from tests.conftest import ROOT


def take(folder, name, owner="gpu07-4711-k3f9"):
    claim = folder.claim(owner, iter([name]))
    assert claim is not None
    return claim


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("trial-00007-1.jsonl", TrialName(7, 1)),
        ("trial-00007-1.jsonl.gpu07-4711-k3f9.taken", TrialName(7, 1, "taken", "gpu07-4711-k3f9")),
        ("trial-00007-2.jsonl.done", TrialName(7, 2, "done")),
        ("trial-00007-1.jsonl.seen", TrialName(7, 1, "seen")),
        ("trial-00007-12.jsonl.lost", TrialName(7, 12, "lost")),
        ("trial-123456-1.jsonl", TrialName(123456, 1)),
    ],
)
def test_a_name_says_trial_attempt_state_and_owner(text, name):
    assert TrialName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "trial-7-1.jsonl", "trial-00007.jsonl", "trial-00007-1.jsonl.taken", "trial-00007-01.jsonl", "x",
        "trial-00007-1.jsonl\n", "trial-00007-1.jsonl.a.b.taken", ".trial-00007-1.jsonl.1-2.tmp", "trial-٠٠٠٠٧-1.jsonl",
        "trial-00007-1.jsonl.../x.taken", "trial-000007-1.jsonl", "study.json", "results.csv", "trial-00007-1.jsonl.DONE",
    ],
)  # fmt: skip
def test_what_is_no_trials_name(text):
    assert TrialName.parse(text) is None


def test_the_road_from_pending_to_seen(folder, pending):
    claim = take(folder, pending)
    assert [str(name) for name in folder.names()] == ["trial-00007-1.jsonl.gpu07-4711-k3f9.taken"]
    claim.append({"claimed": "gpu07-4711-k3f9"})
    claim.append({"epoch": 1, "loss": 0.5})
    claim.finish({"result": {"validation_error": 0.03}, "time": "2026-01-01T00:00:00.000Z"})
    done = pending.to("done")
    assert folder.names() == [done]
    assert folder.collect(done) == pending.to("seen")
    assert folder.names() == [] and folder.settled() == [pending.to("seen")]
    trial = folder.read(pending.to("seen"))
    assert trial.settings == {"x": 0.5} and trial.lease == 5.0
    assert trial.epochs == [{"epoch": 1, "loss": 0.5}] and trial.result == {"validation_error": 0.03}


def test_an_owner_is_unique():
    assert len({new_owner() for _ in range(500)}) > 490  # of a million; in use one a process, with its number
    assert TrialName.parse(str(TrialName(1, 1, "taken", new_owner()))) is not None


# ---- rule 2: whole


def test_a_name_never_appears_before_it_is_whole(folder, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="No space"):
        folder.publish(TrialName(1, 1), {"x": 1}, lease=1)
    assert list(folder.path.iterdir()) == [folder.seen]


# ---- rule 3: claims


def claim_all(path, seed, start, queue):
    random.seed(seed)
    folder, owner, mine = Folder(path), new_owner(), []
    start.wait()
    while claim := folder.claim(owner, folder.candidates("")):
        mine.append((claim.name.number, claim.name.owner == owner))
    queue.put(mine)


@pytest.mark.parametrize("seed", range(5))
def test_eight_processes_race_and_each_trial_has_one_owner(folder, seed):
    print(f"seed {seed}")
    count, processes = 200, 8
    for number in range(count):
        folder.publish(TrialName(number, 1), {}, lease=1)
    context = multiprocessing.get_context("fork")
    start, queue = context.Barrier(processes), context.Queue()
    group = [
        context.Process(target=claim_all, args=(folder.path, 100 * seed + k, start, queue)) for k in range(processes)
    ]
    for process in group:
        process.start()
    claimed = [item for _ in group for item in queue.get(timeout=60)]
    for process in group:
        process.join()
    assert sorted(number for number, _ in claimed) == list(range(count))
    assert all(mine for _, mine in claimed)
    assert len(folder.names()) == count and {name.state for name in folder.names()} == {"taken"}


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE, errno.EIO])
def test_a_claim_whose_reply_was_lost_is_ours(folder, pending, monkeypatch, code):
    rename = os.rename

    def lose_the_reply(source, target, **options):
        rename(source, target, **options)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "rename", lose_the_reply)
    claim = take(folder, pending)
    claim.finish({"result": {"validation_error": 0}})
    assert folder.collect(pending.to("done")) == pending.to("seen")


def test_a_hand_in_whose_reply_was_lost_may_be_collected_already(folder, pending, monkeypatch):
    rename = os.rename
    claim = take(folder, pending)
    claim.append({"claimed": claim.name.owner})

    def lose_the_reply(source, target, **options):
        rename(source, target, **options)
        rename(target, folder.locate(pending.to("seen")))  # the master was quick
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "rename", lose_the_reply)
    claim.finish({"result": {"validation_error": 0}})


def test_what_is_counted_under_our_name_may_be_the_failure(folder, pending):
    claim = take(folder, pending)
    claim.append({"claimed": claim.name.owner})
    folder.lose(claim.name)
    folder.record_failure(pending, {}, ["no sign of life"])
    with pytest.raises(LeaseLost):
        claim.hand_in()


def test_a_trial_that_is_gone_is_not_claimed(folder):
    assert folder.claim("a-1-b", iter([TrialName(3, 1)])) is None


def test_trouble_in_a_rename_is_not_taken_for_a_lost_race(folder, pending, monkeypatch):
    def fail(source, target, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="error"):
        folder.claim("a-1-b", iter([pending]))


# ---- rule 4: lines


def test_append_does_not_create(folder):
    with pytest.raises(FileNotFoundError):
        append_lines(str(folder.path / "gone"), to_line({"epoch": 1}))
    assert not (folder.path / "gone").exists()


def test_a_claim_that_was_taken_away_touches_nothing(folder, pending):
    claim = take(folder, pending)
    lost = folder.lose(claim.name)
    before = open(folder.locate(lost), "rb").read()
    for action in (
        claim.read,
        claim.beat,
        lambda: claim.append({"epoch": 1}),
        lambda: claim.finish({"result": {}}),
        claim.hand_in,
        lambda: claim.give_back("SIGTERM"),
    ):
        with pytest.raises(LeaseLost):
            action()
    assert folder.names() == [] and open(folder.locate(lost), "rb").read() == before


def test_a_line_without_its_newline_does_not_exist(folder, pending):
    claim = take(folder, pending)
    claim.append({"epoch": 1})
    whole = open(claim.path, "rb").read()
    line = to_line({"result": {"validation_error": 0.5}})
    for cut in range(len(line)):
        with open(claim.path, "wb") as file:
            file.write(whole + line[:cut])
        assert claim.read().result is None
    with open(claim.path, "wb") as file:
        file.write(whole + line)
    assert claim.read().result == {"validation_error": 0.5}


def test_half_a_line_is_nothing_and_the_next_append_takes_it_back(folder, pending, monkeypatch):
    claim, write = take(folder, pending), os.write
    before = open(claim.path, "rb").read()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
        with pytest.raises(OSError, match="space"):
            claim.append({"epoch": 1})
    assert claim.read().epochs == []
    claim.append({"epoch": 2})
    assert open(claim.path, "rb").read() == before + to_line({"epoch": 2})


def test_a_file_that_was_emptied_or_cut_while_it_is_ours_takes_the_next_line(folder, pending):
    claim = take(folder, pending)
    claim.append({"epoch": 1})
    for rest in (b"", to_line({"settings": {"x": 0.5}}), b'{"settings": {'):
        os.truncate(claim.path, 0)
        with open(claim.path, "ab") as file:
            file.write(rest)
        claim.append({"epoch": 2})
        kept = rest if rest.endswith(b"\n") else b""
        assert open(claim.path, "rb").read() == kept + to_line({"epoch": 2})


def test_each_line_is_one_write_and_the_last_is_synced_before_done(folder, pending, monkeypatch):
    calls = []
    claim = take(folder, pending)
    for name in ("write", "fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name, **o: (calls.append(name), real(*a, **o))[1])
    claim.append({"epoch": 1})
    claim.finish({"result": {"validation_error": 0.5}})
    assert calls == ["write", "write", "fsync", "rename"]


def test_lines_are_strict_json():
    line = to_line(
        {"epoch": 1, "loss": float("nan"), "more": [float("inf"), {"x": -float("inf")}], "text": "ü\udc80\n"}
    )
    record = json.loads(line, parse_constant=lambda constant: pytest.fail(constant))
    assert record == {"epoch": 1, "loss": None, "more": [None, {"x": None}], "text": "ü\udc80\n"}
    assert line.count(b"\n") == 1


def test_a_second_result_does_not_count(folder, pending):
    claim = take(folder, pending)
    claim.append({"claimed": "me"})
    claim.append({"result": {"validation_error": 0.1}})
    claim.append({"result": {"validation_error": 0.2}})
    claim.append({"epoch": 9})
    trial = claim.read()
    assert trial.result == {"validation_error": 0.1} and trial.epochs == []


def test_a_trial_given_back_is_the_next_attempt_and_starts_afresh(folder, pending):
    claim = take(folder, pending)
    claim.append({"claimed": "me"})
    claim.append({"epoch": 1, "loss": 9.0})
    claim.give_back("SIGTERM")
    assert folder.names() == [TrialName(7, 2)]
    second = take(folder, TrialName(7, 2), "other-1-abcd")
    second.append({"claimed": "other-1-abcd"})
    second.append({"epoch": 1, "loss": 3.0})
    trial = second.read()
    assert trial.settings == {"x": 0.5} and trial.epochs == [{"epoch": 1, "loss": 3.0}]
    with pytest.raises(LeaseLost):
        claim.append({"epoch": 2})


# ---- rule 5 and 11: files are data


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "first line"),
        (b'{"settings": {}}', "first line"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "first line"),
        (b'{"settings": 3}\n', "first line"),
        (b"\xff\xfe\n", "not JSON"),
        (b'{"settings": {}}\nnonsense\n', "line 2 is not JSON"),
        (b'{"settings": {}}\n\n', "line 2 is not JSON"),
        (b'{"settings": {}}\n{"result": 3}\n', "result is not a JSON object"),
        (b'{"settings": {}}\n' + b"[" * 100_000 + b"\n", "line 2 is not JSON"),
    ],
)
def test_a_broken_file_is_named_with_its_fault(folder, content, complaint):
    name = TrialName(1, 1, "done")
    path = folder.locate(name)
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(BrokenFile) as caught:
        folder.read(name)
    assert str(caught.value).startswith(path) and complaint in str(caught.value)


def test_what_is_no_regular_file_is_not_read(folder, tmp_path):
    (tmp_path / "secret").write_text('{"settings": {}}\n')
    paths = [str(folder.path / name) for name in ("link", "fifo", "directory")]
    os.symlink(tmp_path / "secret", paths[0])
    os.mkfifo(paths[1])
    os.mkdir(paths[2])
    for path in paths:
        with pytest.raises(BrokenFile):
            read_records(path)
        with pytest.raises((OSError, LeaseLost)):
            append_lines(path, to_line({"epoch": 1}))
    assert (tmp_path / "secret").read_text() == '{"settings": {}}\n'


def test_a_file_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    name = TrialName(1, 1, "done")
    with open(folder.locate(name), "wb") as file:
        file.write(b'{"settings": {}}\n' + b" " * 2000 + b"\n")
    with pytest.raises(BrokenFile, match="more than"):
        folder.read(name)


def test_all_names_and_all_renames_live_in_one_place():
    protocol = ROOT / "foldertune/protocol"
    for path in [
        *ROOT.glob("*.py"),
        *(p for d in ("foldertune", "analysis") for p in (ROOT / d).rglob("*.py")),
    ]:
        text = path.read_text()
        if path != protocol / "files.py":  # where a rename is made with care
            assert "os.rename" not in text and "os.replace" not in text and ".rename(" not in text, path
        if path not in (protocol / "files.py", protocol / "folder.py"):  # where a state changes
            assert not re.search(r"\brename\(|import .*\brename\b", text), path
        if path not in (protocol / "names.py", protocol / "folder.py"):
            assert not re.search(r"""["']\.(taken|done|seen|lost)|\.(taken|seen|lost)["']""", text), path


def test_a_claim_is_shown_alive_by_its_time(folder, pending):
    claim: Claim = take(folder, pending)
    os.utime(claim.path, (1, 1))
    before = folder.signature(claim.name)
    claim.beat()
    assert folder.signature(claim.name) != before


def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for path in (tmp_path / "results.csv", tmp_path / "away" / "results.csv"):
        with pytest.raises(OSError) as caught:
            write_whole(path, b"x")
        assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())
