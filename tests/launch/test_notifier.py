"""A master tells a person who does not watch, by a command of theirs."""

from __future__ import annotations

import os

from foldertune.commands.messages import AFTER, BEST_EVERY, TROUBLE_AFTER, Messages
from foldertune.launch.notifier import Notifier
from foldertune.protocol import TrialName
from foldertune.reading.reader import read_results
from foldertune.study_file import study_from_record
from tests.conftest import wait_for
from tests.reading.test_status import STUDY, claimed, write

TELL = 'echo "$FOLDERTUNE_EVENT|$FOLDERTUNE_TRIAL|$FOLDERTUNE_VALUE|$FOLDERTUNE_MESSAGE" >> {}'


def test_the_end_is_told_and_a_command_that_fails_is_one_line(bench):
    file = bench.path / "told"
    command = f"{TELL.format(file)}; env | grep ^FOLDERTUNE_ >> {file}; echo no such server >&2; exit 3"
    said = bench.search(bench.study(trials=2), "--workers", 1, "--notify", command)
    assert said.count("--notify ended with exit code 3: no such server\n") == 1
    event, trial, value, message = file.read_text().splitlines()[0].split("|")
    assert event == "complete" and f"in trial {trial} (x " in message and 0 <= float(value) <= 1
    assert {f"FOLDERTUNE_LOGS={bench.logs}", "FOLDERTUNE_STUDY=toy", "FOLDERTUNE_METRIC=validation_error"} <= set(
        file.read_text().splitlines()
    )
    assert not any(command in path.read_text() for path in bench.logs.glob("*") if path.is_file())


def test_a_new_best_and_what_is_stuck(bench, folder, tmp_path):
    file, now, said = tmp_path / "told", [0.0], []
    folder.prepare()
    folder.write_study(STUDY)
    messages = Messages(
        TELL.format(file), folder.path, study_from_record(STUDY, "test"), said.append, clock=lambda: now[0]
    )

    def told(count):
        def is_told():
            messages._notifier.look()
            return file.exists() and len(file.read_text().splitlines()) == count

        wait_for(is_told, f"message {count}: {said}")
        return file.read_text().splitlines()[-1]

    def end(number, error):
        lines = {"settings": {"learning_rate": 0.25}}, claimed("a"), {"result": {"validation_error": error}}
        write(folder, TrialName(number, 1, "seen"), *lines)
        messages.look(read_results(folder.path))

    end(1, 0.5)
    end(2, 0.6)
    end(3, 0.4)
    assert told(1).startswith("best|3|0.4|toy: trial 3 is the best so far; best: validation_error")
    end(4, 0.3)
    now[0] += BEST_EVERY
    end(5, 0.2)
    assert told(2).startswith("best|5|0.2|"), "and nothing about trial 4, which came too soon"
    folder.publish(TrialName(7, 1), {"learning_rate": 0.5}, lease=60.0)
    for _ in range(3):
        messages.look(read_results(folder.path))
        now[0] += AFTER / 2 + 1
    assert "toy: 1 trial waits, but no worker is there" in told(3) and len(said) == 1
    for _ in range(3):
        messages.trouble(OSError(5, "Input/output error", str(folder.path)))
        now[0] += TROUBLE_AFTER / 2 + 1
    messages.trouble(OSError(5, "Input/output error", str(folder.path)))
    assert "the folder is in trouble: [Errno 5]" in told(4) and len(said) == 1


def test_a_full_disk_does_not_end_the_master(tmp_path, monkeypatch):
    said, count = [], tmp_path / "count"

    def full():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("foldertune.launch.notifier.tempfile.TemporaryFile", full)
    notifier = Notifier(f'echo "$FOLDERTUNE_EVENT" >> {count}; exit 3', said.append)
    notifier.tell("stuck", {})
    notifier.finish()
    assert count.read_text() == "stuck\n" and said == ["--notify ended with exit code 3"], said


def test_one_command_at_a_time_and_none_for_ever(tmp_path, monkeypatch):
    said, flag, count = [], tmp_path / "flag", tmp_path / "count"
    notifier = Notifier(f'echo "$FOLDERTUNE_EVENT" >> {count}; until [ -e {flag} ]; do sleep 0.05; done', said.append)
    for event in ("best", "stuck", "best", "stuck"):
        notifier.tell(event, {})
    wait_for(lambda: count.exists() and count.read_text() == "best\n", "the first")
    flag.touch()
    notifier.finish()
    assert count.read_text() == "best\nstuck\nbest\n" and said == [], "of a kind, only the latest waits"
    os.remove(flag)
    monkeypatch.setattr("foldertune.launch.notifier.LONGEST", 0.2)
    notifier.tell("best", {"TEXT": "a\0b"})
    notifier.finish()
    assert said == ["--notify took longer than 0.2 s"]
