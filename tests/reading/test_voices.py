"""What `foldertune logs` prints: the story of a trial as it grows, one worker of many, and nothing outside the folder."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from foldertune.errors import UserError
from foldertune.protocol import TrialName, WorkerRecords, identify_process
from foldertune.reading.voices import find_voices
from foldertune.reading.workers import SILENT, Watch
from tests.conftest import wait_for
from tests.reading.test_status import STUDY, claimed, write


def test_a_trial_is_followed_to_its_end(bench):
    folder = bench.folder
    folder.prepare()
    folder.write_study(STUDY)
    folder.output.mkdir()
    running, settings = TrialName(7, 2, "taken", "gpu-1-abcd"), {"settings": {"learning_rate": 0.5}}
    write(folder, TrialName(7, 1, "lost"), settings, claimed("gpu"), {"error": "ValueError: no"})
    write(folder, running, settings, claimed("gpu"))
    output = folder.output_of(running)
    output.write_bytes(b"epoch 1\n\x1b[2J")
    following = bench.start("-m", "foldertune", "logs", "7", "--follow", "--logs", bench.logs)
    assert following.stdout.readline() == f"==> trial 7, attempt 1: {folder.output_of(TrialName(7, 1))} <==\n"
    assert following.stdout.readline() == "ValueError: no\n"
    assert f"attempt 2: {output}" in following.stdout.readline()
    assert following.stdout.readline() == "epoch 1\n"
    with open(output, "ab") as file:
        file.write(b"epoch 2\n")
    assert following.stdout.readline() == "\x1b[2Jepoch 2\n", "into a pipe as it is"
    write(folder, running, settings, claimed("gpu"), {"error": "MemoryError", "traceback": "in train\nMemoryError\n"})
    (bench.logs / str(running)).rename(bench.logs / "trial-00007-2.jsonl.done")
    wait_for(lambda: following.poll() is not None, "the end of the trial")
    assert bench.finish(following) == "in train\nMemoryError\n"


def test_a_name_by_any_part_and_only_files_of_the_folder(folder, tmp_path):
    known = WorkerRecords(folder)
    (tmp_path / "secret.log").write_text("secret")
    (folder.path / "worker-1.log").write_text("hello\n")
    (folder.path / "worker-2.log").symlink_to(tmp_path / "secret.log")
    logs = ("worker-1.log", "../secret.log", str(tmp_path / "secret.log"), "worker-2.log")
    for number, log in enumerate(logs, start=1):
        owner = f"gpu0{number}-4711-abcdefgh"
        known.write({"worker": owner, "host": f"gpu0{number}", "launcher": f"ssh {number}", "log": log})
    (voice,) = find_voices(folder, "GPU01")
    assert voice.file == folder.path / "worker-1.log" and voice.title == "gpu01-4711-abcdefgh (ssh 1)"
    assert find_voices(folder, "ssh 1")[0].file == find_voices(folder, "worker-1")[0].file == voice.file
    for word in ("gpu02", "ssh 3"):
        (voice,) = find_voices(folder, word)
        assert "secret" not in str(voice.file) and "does not write into this folder, but to gpu0" in voice.remark()
    with pytest.raises(
        UserError, match=r"^ssh: may be any of gpu01-4711-abcdefgh \(ssh 1\), .*; give more of its name$"
    ):
        find_voices(folder, "ssh")


def test_a_worker_that_was_killed_says_nothing_more(folder):
    """On this host its process tells; elsewhere its silence: by our own clock once it was heard."""
    known, (mine, other) = WorkerRecords(folder), ("here-1-abcdefgh", "far-2-abcdefgh")
    (folder.path / "worker-1.log").write_text("hello\n")
    record = {"worker": mine, "host": "here", "log": "worker-1.log", "process": identify_process()}
    known.write({**record, "pid": os.getpid()})
    (voice,) = find_voices(folder, mine)
    assert not voice.is_over()
    gone = subprocess.Popen(["true"])
    gone.wait()
    known.write({**record, "pid": gone.pid})
    assert voice.is_over()

    now = [0.0]
    known.write({"worker": other})
    watch = Watch(folder, other, clock=lambda: now[0])
    assert not watch.has_ended()
    for ahead in (-1, 1):
        os.utime(folder.workers / f"{other}.json", (time.time() + ahead * 2 * SILENT,) * 2)
        assert Watch(folder, other).has_ended()
    for _ in range(int(SILENT)):
        assert not watch.has_ended()
        now[0] += 1
    now[0] += 1
    assert watch.has_ended()
