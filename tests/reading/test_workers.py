"""The table of workers, and the alarms for machines and work that stand idle."""

from __future__ import annotations

import io
import os
import time

import pytest
from rich.console import Console

from foldertune.protocol import Masters, TrialName, WorkerRecords, new_owner
from foldertune.reading.alarms import alarms
from foldertune.reading.archive import open_study
from foldertune.reading.reader import Reader, read_results
from foldertune.reading.terminal.live import render
from foldertune.reading.terminal.workers import workers_lines
from tests.pages import make
from tests.reading.test_status import STUDY, claimed, write

LONG = "an error of a worker that is far longer than any terminal is wide, so that it must be cut somewhere"


@pytest.fixture
def study(folder):
    """A study with one pending trial, led by another host's master. A function adds workers' records."""
    folder.prepare()
    folder.write_study(STUDY)
    folder.publish(TrialName(7, 1), {"learning_rate": 0.5, "epochs": 9}, lease=60.0)
    Masters(folder).follow(0, "far-7-abcdefgh", 60.0)

    def add(name, number=1, **more):
        record = {"worker": f"{name}-{number}-abcdefgh", "host": name, "device": "cuda:0", "gpu": "NVIDIA A100", **more}
        WorkerRecords(folder).write({"memory": 3 * 2**30, "launcher": f"slurm 4711_{number}", **record})

    return folder, add


def age(folder):
    """Let the pending trial be a minute old."""
    os.utime(folder.locate(TrialName(7, 1)), (time.time() - 60,) * 2)


def said(folder):
    return alarms(Reader(*open_study(folder.path)).read())


def test_the_table_fits_and_cuts_no_number(study, bench):
    folder, add = study
    for number in range(40):
        add("gpu07", number)
        name = TrialName(100 + number, 1, "taken", f"gpu07-{number}-abcdefgh")
        lines = {"settings": {"learning_rate": 0.25}}, {"claimed": name.owner, "host": "gpu07"}, {"epoch": 3}
        write(folder, name, *lines[: 2 if number % 2 else 3])
    add("gpu08", 50, ended=LONG)
    add("gpu08", 51, ended="nothing more to do")
    write(folder, TrialName(1, 1, "seen"), {"settings": {}}, {"claimed": "gpu08-50-abcdefgh"}, {"result": {"x": 1}})
    results = read_results(folder.path)
    for width, lacks in ((80, "NVIDIA"), (200, None)):
        output = io.StringIO()
        console = Console(file=output, width=width, highlight=False)
        console.print(*workers_lines(results.workers, width, expand=True, box=None), sep="\n")
        lines = output.getvalue().splitlines()
        assert max(map(len, lines)) <= width and len(lines) == 13
        assert "gpu08-50-abcdefgh" in lines[1] and (width > 80 or "…" in lines[1]) and "~0:0" in lines[1]
        assert "slurm 4711_50" in lines[1] or width == 80
        assert lines[-1].strip() == "and 31 more: 30 at work, 1 ended"
        assert lacks is None or lacks not in output.getvalue()
        assert all("3.0G" in line for line in lines[1:-1])
    assert results.workers[0].finished == 1 and results.workers[-1].end == "nothing more to do"
    page, _ = make(bench, folder.path)
    assert LONG in page and "slurm 4711_50" in page


def test_work_that_waits_for_workers_and_workers_that_wait_for_work(study):
    folder, add = study
    (alarm,) = said(folder)
    assert alarm.startswith("1 trial waits, but no worker is there; start one on any machine: python worker.py --logs ")
    add("gpu07", waits=None)
    assert said(folder) == [], "it has just come"
    add("gpu07", waits=45)
    assert said(folder) == [], "it may not have seen the trial yet"
    age(folder)
    assert "so do all workers; see what one says: python -m foldertune logs gpu07-1-abcdefgh" in said(folder)[0]

    running = TrialName(7, 1, "taken", "gpu08-1-abcdefgh")
    os.rename(folder.locate(TrialName(7, 1)), folder.locate(running))
    with open(folder.locate(running), "ab") as file:
        file.write(b'{"claimed": "gpu08-1-abcdefgh", "host": "gpu08"}\n')
    assert said(folder)[0].startswith("1 worker waits: the strategy (random) must see results")
    assert "more workers would not help" in said(folder)[0]
    master = Masters(folder).locate(1)
    os.utime(master, (time.time() - 600,) * 2)
    assert "1 worker waits, and no master leads: the last, process" in said(folder)[0]
    assert "silent for 10:00 by the times of files; start it again" in said(folder)[0]
    folder.complete_study(STUDY)
    assert said(folder) == []


def test_time_is_measured_by_our_own_clock_where_we_watch(study):
    folder, add = study
    now = [1000.0]
    add("gpu07")
    reader = Reader(*open_study(folder.path), clock=lambda: now[0])
    os.utime(folder.workers / "gpu07-1-abcdefgh.json", (0, 0))  # a server whose clock is wrong
    assert reader.read().workers[0].end.startswith("killed or cut off")
    now[0] += 60
    os.utime(folder.workers / "gpu07-1-abcdefgh.json", (60, 60))
    assert (worker := reader.read().workers[0]).last_sign == "0:00" and not worker.end
    now[0] += 30
    assert reader.read().workers[0].last_sign == "0:30"


def test_a_time_far_ahead_is_no_sign_of_life(study):
    folder, add = study
    add("gpu07", waits=45)
    age(folder)
    for ahead, is_there in ((60, True), (7200, False)):
        os.utime(folder.workers / "gpu07-1-abcdefgh.json", (time.time() + ahead,) * 2)
        assert ("so do all workers" in said(folder)[0]) == is_there
        assert ("but no worker is there" in said(folder)[0]) != is_there
        os.utime(Masters(folder).locate(1), (time.time() + ahead,) * 2)
        assert Reader(*open_study(folder.path)).read().leader.is_gone != is_there


def test_a_worker_without_a_record_and_one_that_writes_nonsense(study):
    folder, add = study
    owner = new_owner()
    write(folder, TrialName(9, 1, "taken", owner), {"settings": {}}, {**claimed("gpu09"), "claimed": owner})
    add("gpu07", launcher=["x"], memory="much", gpu="\x1b[2J", ended={"a": 1}, host=7)
    results = read_results(folder.path)
    assert {worker.owner for worker in results.workers} == {owner, "gpu07-1-abcdefgh"}
    output = io.StringIO()
    Console(file=output, width=300).print(render(results, width=300))
    assert "\x1b" not in output.getvalue() and "ended" in output.getvalue()
