"""kill -9 at every system call that touches the folder, and at random moments.

    python -m tests.explorers.crashes                       every kill point, 100 seeds
    python -m tests.explorers.crashes --every 10 --seeds 3  a tenth of it
    python -m tests.explorers.crashes --kind rungs          trials that go on with others
    python -m tests.explorers.crashes --kind stopping       trials that are stopped early
    python -m tests.explorers.crashes --kind confirm        the best settings are trained again

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
class Kind:
    """A kind of search."""

    objective: str
    extra: str = ""  # in the study's file
    trials: int = TRIALS
    many: int = 60  # trials of a search with many kills
    confirmed: int = 0  # settings that are confirmed
    repeats: int = 0  # of each

    def study(self, bench: Bench, trials: int = 0, seed: int = 0) -> str:
        """The study's file."""
        return str(bench.study(trials=trials or self.trials, objective=self.objective, seed=seed, extra=self.extra))


PLAIN = Kind("quick")
RUNGS = Kind(
    "stepping", '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 4\nfactor = 2\nschedule = "asha"\n', 4
)  # one is promoted
STOPPING = Kind("lingering", '[stopping]\nrule = "plateau"\npatience = 3\n')  # some would never end
CONFIRM = Kind("quick", "[confirm]\nbest = 2\nrepeats = 7\n", many=8, confirmed=2, repeats=7)
KINDS = {"plain": PLAIN, "rungs": RUNGS, "stopping": STOPPING, "confirm": CONFIRM}


@dataclass(frozen=True)
class KillPoint:
    """The `number`-th call with this name in the program's main thread."""

    program: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.program}: {self.call} {self.number}"


def start_worker(bench: Bench, kind: Kind) -> list[str]:
    """The command of a worker that finds the last trials there: promotions, requests to stop or confirmations, if any."""
    study = load_study(kind.study(bench))
    folder = open_folder(bench.folder, study)
    folder.write_study(study.to_record())
    objective = f"tests.objectives:{kind.objective}"
    command = ["worker.py", "--logs", str(bench.logs), "--objective", objective, "--idle-timeout", "0"]
    master = Master(folder, study, lease=LEASE, max_attempts=3)
    master.step()
    while not is_late(master):
        assert not master.is_done(), "no trial was promoted or confirmed"
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, timeout=60, check=True)
        master.step()
    for name in folder.names() if study.stopping else ():
        folder.ask_to_stop(name.to("stop"), "plateau: …")
    return command


def is_late(master: Master) -> bool:
    """Are the last trials open?"""
    if master.study.confirm:
        return bool(master.ledger.open.keys() & master.ledger.confirmations)
    return not master.study.fidelity or any(each and each.parent for each in master.ledger.open.values())


def start_master(bench: Bench, kind: Kind) -> list[str]:
    """The command of a master with a worker of its own."""
    return ["master.py", kind.study(bench), "--logs", str(bench.logs), "--workers", "1", "--lease", str(LEASE)]


PROGRAMS = {"worker": start_worker, "master": start_master}


def trace(bench: Bench, program: str, *options: str, kind: Kind = PLAIN) -> str:
    """Run a program to its end, of whatever kind, and return strace's lines about its main thread."""
    log = bench.path / "strace.txt"
    command = ["strace", "-y", "-qq", "-o", str(log), "-e", f"trace={CALLS}", *options, sys.executable]
    subprocess.run([*command, *PROGRAMS[program](bench, kind)], cwd=ROOT, capture_output=True, timeout=60)
    return log.read_text()


def kill_points(program: str, kind: Kind = PLAIN, about: str = "") -> list[KillPoint]:
    """Every call that touches the folder in one undisturbed run; of them, those with this in the names of files."""
    with tempfile.TemporaryDirectory() as path:
        bench, seen, points = Bench(Path(path)), Counter[str](), []
        for line in trace(bench, program, kind=kind).splitlines():
            call = line.partition("(")[0]
            seen[call] += 1
            if str(bench.logs) in line and about in line:
                points.append(KillPoint(program, call, seen[call]))
        bench.close()
    return points


def survive(bench: Bench, point: KillPoint, kind: Kind = PLAIN) -> str:
    """Kill the program at this call, start fresh programs, and check the outcome. Returns the exact place of the kill."""
    log = trace(bench, point.program, "-e", f"inject={point.call}:signal=KILL:when={point.number}", kind=kind)
    last = log.splitlines()[-2:]
    killed = last[-1].endswith("killed by SIGKILL +++") or "+++ killed" in last[-1]
    bench.search(kind.study(bench), "--workers", "1", "--lease", LEASE)
    check(bench, kind.trials, kind)
    return re.sub(r"\d{3,}", "…", last[0].replace(str(bench.logs), "logs")) if killed else ""


def check(bench: Bench, trials: int, kind: Kind = PLAIN) -> None:
    """Each trial is counted once, with the result of its own settings; results.csv agrees; nothing is left over."""
    bench.assert_complete(trials, kind.confirmed * kind.repeats)
    for row in bench.rows():
        assert row.status == ("stopped" if kind is STOPPING and row.settings["x"] > 0.5 else "succeeded"), row
        assert row.metrics["validation_error"] == row.settings["x"], row
    assert not list(bench.logs.glob("*.stop"))
    assert not list(bench.folder.checkpoints.iterdir()) and not bench.folder.aside.exists()
    parents = [row.parent for row in bench.rows() if row.parent is not None]
    assert len(set(parents)) == len(parents), f"promoted twice: {parents}"
    confirmed = Counter(row.confirms for row in bench.rows() if row.confirms is not None)
    best = sorted(bench.rows()[:trials], key=lambda row: row.metrics["validation_error"])[: kind.confirmed]
    assert confirmed == {row.trial: kind.repeats for row in best}


def survive_at_random(
    bench: Bench, seed: int, trials: int = 0, workers: int = 8, kills: int = 10, kind: Kind = PLAIN
) -> None:
    """Kill a worker, its trainer or the master at a random moment, several times. Then check the outcome."""
    chance, trials = random.Random(seed), trials or kind.many
    study, options = kind.study(bench, trials, seed), ("--lease", LEASE, "--max-attempts", 1000)
    crowd = [bench.worker(kind.objective) for _ in range(workers)]
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
            crowd.append(bench.worker(kind.objective))
    bench.finish(master)
    for process in crowd:
        bench.finish(process)
    check(bench, trials, kind)


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
    parser.add_argument("--kind", choices=KINDS, default="plain", help="of the search (default: plain)")
    arguments = parser.parse_args()
    kind = KINDS[arguments.kind]
    for program in PROGRAMS:
        points = kill_points(program, kind)[:: arguments.every]
        where = Counter()
        for point in points:
            with tempfile.TemporaryDirectory() as path:
                bench = Bench(Path(path))
                place = survive(bench, point, kind)
                bench.close()
            where[place.partition("(")[0] or "not reached"] += 1
            print(f"{point}: {place or 'not reached'}", file=sys.stderr)
        print(f"{program}: {len(points)} kill points, nothing lost:", dict(where), flush=True)
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as path:
            bench = Bench(Path(path))
            survive_at_random(bench, seed, kind=kind)
            bench.close()
    print(f"random moments: {arguments.seeds} seeds, 10 kills each among 8 workers and a master: nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
