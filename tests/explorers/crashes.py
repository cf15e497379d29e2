"""kill -9 at every system call that touches the folder, and at random moments.

    python -m tests.explorers.crashes                       every kill point, 100 seeds
    python -m tests.explorers.crashes --every 10 --seeds 3  a tenth of it

A program runs once under strace to list its calls. Then it runs again for each call, and is killed at that call (`strace
-e inject=rename:signal=KILL:when=7`). Then fresh programs are started, which know nothing of the kill. Each time
every trial asked for must be counted once, with the right result, and nothing must be left over. Nobody may wait for
a dead process: the lease is longer than the test waits.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from foldertune.running.master import Master
from foldertune.running.mastership import open_folder
from foldertune.study_file import load_study
from tests.conftest import ROOT, Bench, wait_for

TRIALS = 3
CALLS = (
    "openat,read,pread64,write,close,fsync,ftruncate,rename,unlink,mkdir,newfstatat,utimensat,getdents64,access,flock"
)
LEASE = 600  # seconds: whoever waited for one to expire would be too late


@dataclass(frozen=True)
class KillPoint:
    """The `number`-th call with this name in the program's main thread."""

    program: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.program}: {self.call} {self.number}"


def start_worker(bench: Bench, objective: str) -> list[str]:
    """The command of a worker that finds its trials there."""
    study = load_study(bench.study(trials=TRIALS, objective=objective))
    folder = open_folder(bench.folder, study)
    folder.write_study(study.to_record())
    Master(folder, study, lease=LEASE, max_attempts=3).step()
    return [
        "worker.py",
        "--logs",
        str(bench.logs),
        "--objective",
        f"tests.objectives:{objective}",
        "--idle-timeout",
        "0",
    ]


def start_master(bench: Bench, objective: str) -> list[str]:
    """The command of a master with a worker of its own."""
    return [
        "master.py",
        bench.study(trials=TRIALS, objective=objective),
        "--logs",
        str(bench.logs),
        "--workers",
        "1",
        "--lease",
        str(LEASE),
    ]


STOPPING = '[stopping]\nrule = "plateau"\npatience = 3\n'


def start_stopping_master(bench: Bench, objective: str) -> list[str]:
    """The command of a master that asks its worker to stop trials early: some would never end."""
    study = bench.study(trials=TRIALS, objective="lingering", extra=STOPPING)
    return ["master.py", study, "--logs", str(bench.logs), "--workers", "1", "--lease", str(LEASE)]


def start_stopped_worker(bench: Bench, objective: str) -> list[str]:
    """The command of a worker that finds its trials there, each with a request to stop."""
    study = load_study(bench.study(trials=TRIALS, objective="lingering", extra=STOPPING))
    folder = open_folder(bench.folder, study)
    folder.write_study(study.to_record())
    Master(folder, study, lease=LEASE, max_attempts=3).step()
    for name in folder.names():
        folder.ask_to_stop(name.to("stop"), "plateau: …")
    own = ["--objective", "tests.objectives:lingering", "--idle-timeout", "0"]
    return ["worker.py", "--logs", str(bench.logs), *own]


PROGRAMS = {"worker": start_worker, "master": start_master}
STOPPERS = {"stopping master": start_stopping_master, "stopped worker": start_stopped_worker}


def trace(bench: Bench, program: str, *options: str, objective: str = "quick") -> str:
    """Run a program to its end, of whatever kind, and return strace's lines about its main thread."""
    log = bench.path / "strace.txt"
    command = ["strace", "-y", "-qq", "-o", str(log), "-e", f"trace={CALLS}", *options, sys.executable]
    subprocess.run(
        [*command, *(PROGRAMS | STOPPERS)[program](bench, objective)], cwd=ROOT, capture_output=True, timeout=60
    )
    return log.read_text()


def kill_points(program: str, objective: str = "quick", about: str = "") -> list[KillPoint]:
    """Every call that touches the folder in one undisturbed run; of them, those on files with this in their names."""
    with tempfile.TemporaryDirectory() as path:
        bench, seen, points = Bench(Path(path)), Counter[str](), []
        for line in trace(bench, program, objective=objective).splitlines():
            call = line.partition("(")[0]
            seen[call] += 1
            if str(bench.logs) in line and about in line:
                points.append(KillPoint(program, call, seen[call]))
        bench.close()
    return points


def survive(bench: Bench, point: KillPoint) -> str:
    """Kill the program at this call, start fresh programs, and check the outcome. Returns the exact place of the kill."""
    log = trace(bench, point.program, "-e", f"inject={point.call}:signal=KILL:when={point.number}")
    last = log.splitlines()[-2:]
    killed = last[-1].endswith("killed by SIGKILL +++") or "+++ killed" in last[-1]
    if point.program in STOPPERS:
        bench.search(
            bench.study(trials=TRIALS, objective="lingering", extra=STOPPING), "--workers", 1, "--lease", LEASE
        )
        check_stopped(bench, TRIALS)
    else:
        bench.search(bench.study(trials=TRIALS), "--workers", "1", "--lease", LEASE)
        check(bench, TRIALS)
    return re.sub(r"\d{3,}", "…", last[0].replace(str(bench.logs), "logs")) if killed else ""


def check(bench: Bench, trials: int) -> None:
    """Each trial is counted once, with the result of its own settings; results.csv agrees; nothing is left over."""
    bench.assert_complete(trials)
    for row in bench.rows():
        assert row.status == "succeeded" and row.metrics["validation_error"] == row.settings["x"], row
    assert not list(bench.folder.checkpoints.iterdir()) and not bench.folder.aside.exists()


def check_stopped(bench: Bench, trials: int) -> None:
    """The same, for trials that are stopped early if they get no better; no request is left over."""
    bench.assert_complete(trials)
    rows = bench.rows()
    for row in rows:
        status, value = (
            ("stopped", row.settings["x"]) if row.settings["x"] > 0.5 else ("succeeded", row.settings["x"] / 4)
        )
        assert (row.status, row.metrics["validation_error"]) == (status, value), row
    assert {row.status for row in rows} == {"stopped", "succeeded"} and not list(bench.logs.glob("*.stop"))


def survive_at_random(bench: Bench, seed: int, trials: int = 60, workers: int = 8, kills: int = 10) -> None:
    """Kill a worker, its trainer or the master at a random moment, several times. Then check the outcome."""
    chance = random.Random(seed)
    study, options = bench.study(trials=trials, seed=seed), ("--lease", LEASE, "--max-attempts", 1000)
    crowd = [bench.worker() for _ in range(workers)]
    master = bench.master(study, *options)
    for _ in range(kills):
        goal = len(bench.names("seen")) + chance.randrange(4)
        wait_for(lambda goal=goal, master=master: len(bench.names("seen")) >= goal or master.poll() is not None)
        time.sleep(chance.random() / 50)
        if chance.random() < 0.3:
            master.kill()
            master.wait()
            master = bench.master(study, *options)
        elif chance.random() < 0.3:
            kill_trainer(chance.choice(crowd).pid)
        else:
            victim = crowd.pop(chance.randrange(len(crowd)))
            victim.kill()
            victim.wait()
            crowd.append(bench.worker())
    bench.finish(master)
    for process in crowd:
        bench.finish(process)
    check(bench, trials)


def kill_trainer(worker: int) -> None:
    """Kill the process in which this worker trains, if there is one just now."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


def main() -> int:
    """Run the long sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try each N-th kill point (default: 1)")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="searches with random kills (default: 100)")
    arguments = parser.parse_args()
    for program in PROGRAMS | STOPPERS:
        points = kill_points(program)[:: arguments.every]
        where = Counter()
        for point in points:
            with tempfile.TemporaryDirectory() as path:
                bench = Bench(Path(path))
                place = survive(bench, point)
                bench.close()
            where[place.partition("(")[0] or "not reached"] += 1
            print(f"{point}: {place or 'not reached'}", file=sys.stderr)
        print(f"{program}: {len(points)} kill points, nothing lost:", dict(where), flush=True)
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as path:
            bench = Bench(Path(path))
            survive_at_random(bench, seed)
            bench.close()
    print(f"random moments: {arguments.seeds} seeds, 10 kills each among 8 workers and a master: nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
