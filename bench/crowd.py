"""Simulate hundreds of workers on one file server: the real code of master and workers, in virtual time.

    python -m bench.crowd                                    tables for 64, 256 and 1,000 workers (half an hour)
    python -m bench.crowd --check                            64 real workers beside 64 simulated ones
    python -m bench.crowd --workers 1000 --seconds 10        one case

Only three things are not real. Time: a process that waits gives way to the next one that wakes up. Training: it lasts
as long as it is told, give or take a fifth. And the file server: each call on a file in the folder waits for its turn
and for the network, as `Server` says; the call itself is then done in memory. So claims collide, listings age, and
heartbeats come as they do on a file server of that speed. It writes everything to bench/results/crowd.json.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.strategies import RESULTS, machine
from foldertune.cli import new_parser
from foldertune.launch.search import run as run_master
from foldertune.protocol import SIGN_EVERY, Folder, Heartbeat, WorkerRecords
from foldertune.protocol.leases import LOOK_EVERY
from foldertune.running.fault import Fault
from foldertune.running.master import Master
from foldertune.running.mastership import open_folder
from foldertune.running.trainer import Trainer
from foldertune.running.worker import Worker
from foldertune.study_file import load_study

ROOT = Path(__file__).resolve().parent.parent
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
OBJECTIVE = "bench.noop:sleep"
STUDY = """\
objective = "bench.noop:sleep"
strategy = "random"
metric = "loss"
trials = {trials}
[fixed]
lasts = {lasts}
[space]
x = {{ type = "float", low = 0.8, high = 1.2 }}
"""
EACH = 5  # trials of each worker
IDLE = 600.0  # seconds of the only trial of a search in which all others wait
LEASE = 180.0
EPOCH = 1.8e9  # the virtual time begins here, in seconds since 1970


# ---------------------------------------------------------------- virtual time


class World:
    """Virtual processes: threads of which one runs, until it sleeps. Then the next one that wakes up runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self._local = threading.local()
        self._asleep: list[tuple[float, int, threading.Lock]] = []
        self._order = itertools.count()
        self._over = threading.Event()

    def begin(self, action: Callable[[], object], at: float = 0.0) -> None:
        """Have a process begin at this time."""
        lock = threading.Lock()
        lock.acquire()

        def process() -> None:
            self._local.lock = lock
            lock.acquire()
            try:
                action()
            finally:
                self._go_on()

        threading.Thread(target=process, daemon=True).start()
        heapq.heappush(self._asleep, (at, next(self._order), lock))

    @property
    def is_inside(self) -> bool:
        """Is this one of the virtual processes?"""
        return hasattr(self._local, "lock")

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        own: threading.Lock = self._local.lock
        heapq.heappush(self._asleep, (self.now + max(seconds, 0.0), next(self._order), own))
        self._go_on()
        own.acquire()

    def run(self) -> None:
        """Let all processes run, until the last has ended or `stop` is called."""
        self._go_on()
        self._over.wait()

    def stop(self) -> None:
        """Freeze everything."""
        self._asleep.clear()

    def _go_on(self) -> None:
        if self._asleep:
            self.now, _, lock = heapq.heappop(self._asleep)
            lock.release()
        else:
            self._over.set()


@dataclass
class Server:
    """A file server. It deals with one call after another; each takes this long, and as long again on its way.

    A listing is as many calls as it has replies, of which each holds 100 names.
    """

    world: World
    rate: float  # calls a second that it can deal with
    way: float  # seconds that a call and its answer are on their way
    free_at: float = 0.0

    def __post_init__(self) -> None:
        self.calls: dict[int, Counter[str]] = defaultdict(Counter)  # by whole seconds
        self.lost_claims = 0

    def serve(self, kind: str, replies: int = 1) -> None:
        """Wait until a call is answered."""
        self.calls[int(self.world.now)][kind] += replies
        self.free_at = max(self.free_at, self.world.now) + replies / self.rate
        self.world.sleep(self.free_at - self.world.now + self.way)

    def wrap(self, name: str, kind: str) -> None:
        """Have calls of this function of `os` wait for the server."""
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.world.is_inside:
                return real(*args, **kwargs)
            self.serve(kind)
            try:
                answer = real(*args, **kwargs)
            except FileNotFoundError:
                self.lost_claims += kind == "rename" and str(args[1]).endswith(".taken")
                raise
            if kind == "list":
                self.serve(kind, len(answer) // 100)
            return answer

        setattr(os, name, call)


WRAPPED = {
    "open": "open", "read": "read", "pread": "read", "write": "write", "fsync": "sync", "rename": "rename",
    "listdir": "list", "lstat": "look", "stat": "look", "utime": "touch", "unlink": "remove", "mkdir": "look",
}  # fmt: skip


class Signals:
    """No signal ever comes."""

    number, exit_code, impatient, is_time_up, name, reason = 0, 0, False, False, "", ""

    def __init__(self, world: World) -> None:
        self._world = world

    def wait(self, seconds: float) -> bool:
        """Wait. Has a signal come?"""
        self._world.sleep(seconds)
        return False


class VirtualTrainer(Trainer):
    """Trains by waiting."""

    def __init__(self, world: World, signals: Any) -> None:
        super().__init__(signals, "cpu", None)
        self._world, self._ends, self._x = world, 0.0, 0.0

    def begin(self, name: Any, settings: Any, saving: Any, out: str) -> None:
        """Begin to wait."""
        self._x = settings["x"]
        self._ends = self._world.now + settings["lasts"] * self._x

    def next(self, until: float) -> Any:
        """The result, when it is time."""
        self._world.sleep(self._ends - self._world.now)
        return {"result": {"loss": self._x}}


class VirtualHeartbeat(Heartbeat):
    """Beats in virtual time, and writes down now and then that the worker is there."""

    def __init__(self, world: World, sign: Callable[[], None]) -> None:
        super().__init__()
        self._world, self._sign, self.is_over = world, sign, False

    def start(self) -> None:
        """Begin, at some moment."""
        self._world.begin(self.beat, self._world.now + random.uniform(0, 15))

    def beat(self) -> None:
        """Beat, and look for requests, until the worker has ended."""
        last, next_sign = self._world.now, self._world.now
        while not self.is_over:
            if self._world.now >= next_sign:
                next_sign = self._world.now + SIGN_EVERY
                self._sign()
            self._world.sleep(LOOK_EVERY)
            if self._claim and not self.is_over and self._world.now - last >= self._interval:
                last = self._world.now
                self._claim.beat()
            self.look()


# ---------------------------------------------------------------- a search


@dataclass
class Case:
    """A search to simulate."""

    workers: int
    lasts: float  # seconds of a trial
    rate: float = 5_000.0  # calls a second of the file server
    way: float = 0.0005  # seconds
    trials: int = 0  # 0: EACH for each worker

    @property
    def count(self) -> int:
        """Trials of the search."""
        return self.trials or EACH * self.workers

    @property
    def is_idle(self) -> bool:
        """Does all but one worker wait?"""
        return self.trials == 1


def simulate(case: Case) -> dict[str, Any]:
    """Simulate one search, in this process. Patches `os` and `time`."""
    world = World()
    server = Server(world, case.rate, case.way)
    top = Path(tempfile.mkdtemp(prefix="bench-", dir=MEMORY))
    folder = new_folder(top, case)
    random.seed(case.workers)
    monotonic, clock = time.monotonic, time.time
    time.monotonic = lambda: world.now if world.is_inside else monotonic()
    time.time = lambda: EPOCH + world.now if world.is_inside else clock()
    time.sleep = world.sleep  # type: ignore[assignment]
    for name, kind in WRAPPED.items():
        server.wrap(name, kind)

    def lead() -> None:
        master = Master(folder, load_study(str(top / "crowd.toml")), LEASE, 3, say=lambda text: None)
        master.take_stock()
        run_master(master, None, Fault(folder, master.ledger), Signals(world), lambda: None)  # type: ignore[arg-type]
        world.stop()

    def work(number: int) -> None:
        signals: Any = Signals(world)
        worker = Worker(Folder(folder.path), OBJECTIVE, VirtualTrainer(world, signals), signals)
        worker.owner = f"host{number:04d}-{number}-{number:04d}abcd"
        worker.say = lambda message, flush=True: None  # type: ignore[method-assign, misc]
        record = {"worker": worker.owner, "host": f"host{number:04d}", "device": "cpu", "memory": 2**30}
        heartbeat = VirtualHeartbeat(world, partial(WorkerRecords(folder).write, record))
        worker.run(heartbeat)
        heartbeat.is_over = True

    world.begin(lead)
    for number in range(case.workers):
        world.begin(partial(work, number), random.uniform(1, 1 + min(10.0, case.lasts)))
    world.run()
    measured = {**vars(case), **measure(top, case), "lost claims": server.lost_claims / case.count}
    seconds = [sum(server.calls[second].values()) for second in range(int(world.now))]
    steady = Counter[str]()
    begin, end = (int(share * case.lasts) for share in ((0.5, 1.0) if case.is_idle else (2, EACH - 1)))
    for second in range(begin, max(end, begin + 1)):
        steady += server.calls[second]
    measured["calls a second"] = round(steady.total() / max(end - begin, 1), 1)
    measured["by kind"] = {kind: round(number / max(end - begin, 1), 1) for kind, number in steady.most_common()}
    measured["busiest second"] = max(seconds, default=0)
    shutil.rmtree(top)
    return measured


def new_folder(top: Path, case: Case) -> Folder:
    """A folder with a study."""
    (top / "crowd.toml").write_text(STUDY.format(trials=case.count, lasts=case.lasts))
    study = load_study(str(top / "crowd.toml"))
    folder = open_folder(Folder(top / "logs"), study)
    folder.write_study(study.to_record())
    return folder


def measure(top: Path, case: Case) -> dict[str, Any]:
    """The seconds from the end of one trial of a worker to the beginning of its next, and the share of time at work."""
    spans: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for file in (top / "logs" / "seen").glob("*.seen"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        spans[lines[1]["claimed"]].append((lines[1]["time"], lines[-1]["time"]))
    assert sum(map(len, spans.values())) == case.count, "a trial is missing, or was counted twice"
    gaps = []
    for each in spans.values():
        for (_, ended), (begun, _) in itertools.pairwise(sorted(each)):
            gaps.append((datetime.fromisoformat(begun) - datetime.fromisoformat(ended)).total_seconds())
    ranked = sorted(gaps)
    if case.is_idle:
        return {}
    return {
        "gap": round(statistics.median(ranked), 3),
        "gap of the slowest of a hundred": round(ranked[int(0.99 * (len(ranked) - 1))], 3),
    }


def simulate_apart(case: Case) -> dict[str, Any]:
    """Simulate in a process of its own: it patches what all others need."""
    words = [f"--{name}={value}" for name, value in vars(case).items()]
    command = [sys.executable, "-m", "bench.crowd", "--alone", *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def work_for_real(case: Case) -> dict[str, Any]:
    """The same search by real processes on this machine."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        top = Path(directory)
        new_folder(top, case)
        trace = top / "trace.txt"
        command = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=rename", "-o", trace, sys.executable]
        command += ["master.py", top / "crowd.toml", "--logs", top / "logs", "--workers", case.workers]
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        lost = sum('.taken")' in line and "ENOENT" in line for line in trace.read_text().splitlines())
        return {**vars(case), **measure(top, case), "lost claims": lost / case.count}


def show(measured: dict[str, Any]) -> None:
    """Print one line."""
    calls = f"  {measured['calls a second']:8,.0f} calls/s" if "calls a second" in measured else ""
    gaps = "  all but one wait"
    if "gap" in measured:
        gaps = f"  gap {measured['gap']:7.3f} s  (1 of 100: {measured['gap of the slowest of a hundred']:7.3f})"
    print(
        f"{measured['workers']:6,} workers  {measured['lasts']:6g} s{gaps}"
        f"  lost claims {measured['lost claims']:.2f}{calls}  {measured.get('by kind', '')}",
        flush=True,
    )


def main() -> None:
    """Simulate what the command line asks for, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="64 real workers beside 64 simulated ones")
    parser.add_argument("--workers", type=int, nargs="+", default=[64, 256, 1000], help="default: 64 256 1000")
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[10.0, 20.0, 120.0, 3600.0], help="default: 10 20 120 3600"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    for name in ("lasts", "rate", "way"):
        parser.add_argument(f"--{name}", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        case = Case(arguments.workers[0], arguments.lasts, arguments.rate, arguments.way, arguments.trials)
        print(json.dumps(simulate(case)), flush=True)
        os._exit(0)  # the frozen processes
    measured = []
    if arguments.check:
        case = Case(64, 10.0, rate=20_000.0, way=0.00002)  # a local disk
        measured = [{"what": "real", **work_for_real(case)}, {"what": "simulated", **simulate_apart(case)}]
        for each in measured:
            show(each)
    else:
        for lasts in arguments.seconds:
            for workers in arguments.workers:
                measured.append(simulate_apart(Case(workers, lasts)))
                show(measured[-1])
        for workers in arguments.workers:
            measured.append(simulate_apart(Case(workers, IDLE, trials=1)))
            show(measured[-1])
    name = "crowd-check" if arguments.check else "crowd"
    record = {"command": " ".join(["python -m bench.crowd", *sys.argv[1:]]), **machine(), "searches": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
