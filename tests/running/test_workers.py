"""Each worker is known: where it is, what it did, what ended it and what it said; and one with a broken machine ends."""

from __future__ import annotations

import os
import signal

from foldertune.errors import UserError
from foldertune.protocol import TrialName, WorkerRecords, new_owner, to_line
from foldertune.running.doubts import FEWEST, Doubts
from tests.conftest import wait_for
from tests.launch.test_machine import pretend

DRIVER = """case "$*" in *--query-gpu=name*) echo 'NVIDIA H100 80GB HBM3';; *compute-apps*) echo "$PPID, 2048";; esac"""


def records(bench):
    known = WorkerRecords(bench.folder)
    return {owner: known.read(owner) for owner in known.owners()}


def told(bench, *words):
    return bench.finish(bench.start("-m", "foldertune", *words, "--logs", bench.logs))


def test_each_worker_says_who_it_is_and_what_ended_it(bench, tmp_path):
    bench.master(bench.study(trials=3, objective="stuck"), "--lease", 60)
    wait_for(lambda: bench.names("pending"), "trials")
    (bench.logs / "launch").mkdir()
    log = bench.logs / "launch" / "slurm-4711_3.out"
    path = f"{pretend(tmp_path, 'nvidia-smi', DRIVER)}:{os.environ['PATH']}"
    slurm = {"SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3", "PATH": path}
    with open(log, "wb") as output:
        first = bench.worker("stuck", "--device", "cuda:0", env={**os.environ, **slurm}, stdout=output)
    wait_for(lambda: any("gpu" in record for record in records(bench).values()), "its GPU's name")
    second = bench.worker("stuck")
    wait_for(lambda: len(bench.names("taken")) == len(records(bench)) == 2, "both at work")
    owner, record = next((owner, record) for owner, record in records(bench).items() if record["pid"] == first.pid)
    assert (record["launcher"], record["device"], record["log"]) == (
        "slurm 4711_3",
        "cuda:0",
        "launch/slurm-4711_3.out",
    )
    assert (record["gpu"], record["gpu_memory"]) == ("NVIDIA H100 80GB HBM3", 2**31)
    assert record["memory"] > 10 * 2**20 and record["python"].count(".") == 2
    status = told(bench, "status")
    (line,) = (line for line in status.splitlines() if owner in line and "slurm 4711_3" in line)
    assert "NVIDIA H100 80GB HBM3" in line and "2.0G" in line and " trial " in line and "~0:0" in line

    first.send_signal(signal.SIGTERM)
    first.wait()
    second.kill()
    second.wait()
    status = told(bench, "status")
    assert "stopped by SIGTERM" in status and "killed: its process is gone" in status
    lines = status.splitlines()
    bad, good = (next(k for k, line in enumerate(lines) if text in line) for text in ("killed: its", "stopped by"))
    assert bad < good, "the worst comes first"
    for word in ("slurm 4711_3", "4711_3", owner, "launch/slurm-4711_3.out"):
        assert told(bench, "logs", word) == log.read_text()
    assert told(bench, "logs", "slurm", "--follow").endswith("stopped by SIGTERM; 0 trials trained\n")
    assert told(bench, "logs", log.name, "--follow") == log.read_text(), "by the name of the file, too"
    done = bench.start("-m", "foldertune", "logs", "nobody", "--logs", bench.logs)
    said = bench.finish(done, 2)
    assert said.startswith("error: nobody: no trial, worker or log") and owner in said and said.count("\n") == 1


def test_a_worker_whose_machine_is_broken_gives_back_and_ends_and_costs_no_trial(bench):
    master = bench.master(bench.study(trials=30, objective="placed_badly"))
    healthy = bench.worker("placed_badly")
    wait_for(lambda: bench.names("seen"), "a result")
    broken = bench.worker("placed_badly", env={**os.environ, "BROKEN": "1"})
    said = bench.finish(broken, 2)
    assert said.count("failed after") == FEWEST - 1 and "given back: RuntimeError: CUDA error" in said
    assert "3 trials in a row failed here, and not with another worker" in said.splitlines()[-1]
    bench.finish(master)
    bench.finish(healthy)
    bench.assert_complete(30)
    assert len(bench.names("lost")) == FEWEST - 1 and all(row.error is None for row in bench.rows())
    ends = [record["ended"] for record in records(bench).values() if record["pid"] == broken.pid]
    assert len(ends) == 1 and "seems to be broken" in ends[0]
    assert "seems to be broken" in told(bench, "status")
    number = next(name.number for name in bench.names("seen") if name.attempt == 1)
    assert told(bench, "logs", number).startswith("trained ")


def failing(folder, doubts, numbers, said, owner="a-1-aaaaaaaa"):
    """Let a worker fail these trials. Returns what became of the last one."""
    for number in numbers:
        folder.publish(TrialName(number, 1), {"x": 0.5}, lease=5.0)
        claim = folder.claim(owner, iter([TrialName(number, 1)]))
        is_back = doubts.put_down(claim, {"error": "no"}, said.append)
        if not is_back:
            claim.finish({"error": "no"})
    return is_back


def other(folder, number, state, end, owner="b-2-bbbbbbbb"):
    """A file of another worker's attempt."""
    name = TrialName(number, 2, state, owner if state == "taken" else "")
    with open(folder.locate(name), "wb") as file:
        file.write(to_line({"settings": {"x": 0.5}}) + to_line({"claimed": owner}) + (to_line(end) if end else b""))


def test_settings_that_fail_anywhere_are_no_sign_of_a_broken_machine(folder):
    said = []
    alone = Doubts(folder, "a-1-aaaaaaaa")
    assert not failing(folder, alone, range(5), said) and not alone.hold_back(), "nobody else could tell"
    other(folder, 90, "taken", None)
    doubts = Doubts(folder, "a-1-aaaaaaaa")
    assert failing(folder, doubts, range(10, 13), said) and doubts.hold_back()
    assert folder.has(TrialName(12, 2)), "given back"
    other(folder, 11, "lost", {"error": "no"})
    doubts._next_look = 0
    assert not doubts.hold_back(), "it failed there, too"
    assert failing(folder, doubts, range(20, 23), said), "they arise anew"
    other(folder, 21, "done", {"result": {"validation_error": 1}})
    doubts._next_look = 0
    try:
        doubts.hold_back()
        raise AssertionError("it must end")
    except UserError as error:
        assert "seems to be broken: no" in str(error)
    for number in range(100, 160):
        other(folder, number, "lost", {"error": "no"})
    usual = Doubts(folder, "a-1-aaaaaaaa")
    assert not failing(folder, usual, range(30, 34), said), "where most attempts fail, a few in a row say nothing"


def test_workers_of_one_broken_machine_do_not_acquit_one_another(folder):
    mine, neighbour = new_owner(), new_owner()
    said, doubts = [], Doubts(folder, mine)
    other(folder, 90, "taken", None)
    assert failing(folder, doubts, range(10, 13), said, mine)
    other(folder, 11, "lost", {"error": "no"}, neighbour)
    doubts._next_look = 0
    assert doubts.hold_back(), "the same GPU, driver or library"
    other(folder, 10, "lost", {"error": "no"})
    doubts._next_look = 0
    assert not doubts.hold_back(), "it failed elsewhere, too"


def test_records_are_data_and_do_not_grow_without_bound(folder, tmp_path):
    known = WorkerRecords(folder)
    for number in range(6):
        known.write({"worker": f"gpu-{number + 1}-abcdefgh"})
        os.utime(folder.workers / f"gpu-{number + 1}-abcdefgh.json", (number, number))
    (folder.workers / "mine.txt").touch()
    assert known.limit(4) == 2 and sorted(known.owners())[0] == "gpu-3-abcdefgh" and len(known.owners()) == 4
    (tmp_path / "secret").write_text('{"worker": "no"}')
    (folder.workers / "gpu-8-abcdefgh.json").symlink_to(tmp_path / "secret")
    (folder.workers / "gpu-9-abcdefgh.json").write_text("[" * 100)
    assert known.read("gpu-8-abcdefgh") == known.read("gpu-9-abcdefgh") == known.read("gpu-10-abcdefgh") == {}
    assert (folder.workers / "mine.txt").exists()
