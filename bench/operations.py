"""Count what master and worker ask of the shared folder: by kind, for each trial and for each minute.

    python -m bench.operations [--dir DIR] [--seconds 30]
    python -m bench.operations --moosefs DIR/host1 DIR/host2

What a trial costs is the difference between a search of many trials and one of few, divided by the number of trials
between: so the start does not count. A minute is counted for some seconds, after some others. The first form counts
system calls by strace, but no `stat` of an open file and no `close`: no file server hears of the first, and each `open`
has one `close`. The second form has the master on one mount of a MooseFS and the worker on another (as `up DIR` of
tests/explorers/cluster.sh makes them), and counts what their clients count: what the kernel asks of them, and what
they send to the names' server. It writes everything to bench/results/.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.coordination import STUDY
from bench.strategies import RESULTS, machine
from foldertune.cli import new_parser

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "list": ("getdents64",),
    "open": ("openat", "open"),
    "read": ("read", "pread64"),
    "write": ("write", "pwrite64", "ftruncate"),
    "sync": ("fsync", "fdatasync"),
    "rename": ("rename", "renameat", "renameat2"),
    "remove": ("unlink", "unlinkat"),
    "touch": ("utimensat",),
    "look": ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "mkdir"),
}
CALLS = {call: kind for kind, calls in KINDS.items() for call in calls}
COUNTERS = {  # of a MooseFS client
    "list": ("fuse_ops.readdir",),
    "open": ("fuse_ops.open", "fuse_ops.create"),
    "read": ("fuse_ops.read",),
    "write": ("fuse_ops.write",),
    "sync": ("fuse_ops.fsync",),
    "rename": ("fuse_ops.rename",),
    "remove": ("fuse_ops.unlink",),
    "touch": ("fuse_ops.setattr",),
    "look": ("fuse_ops.lookup.master", "fuse_ops.getattr"),
    "packets": ("master.packets_sent",),
}
FEW, MANY = 20, 60  # trials
SETTLED = 8.0  # seconds after which a program does what it will do for long
_LINE = re.compile(r"\d+ +([\d.]+) (\w+)\((.*)")
MASTER = ["master.py", "{study}", "--logs", "{logs}", "--workers", "0"]
WORKER = ["worker.py", "--logs", "{logs}", "--device", "cpu", "--objective"]


def count(trace: Path, logs: Path, since: float, until: float) -> Counter[str]:
    """The calls that concern the folder, by their kinds."""
    counted: Counter[str] = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if not match or match[2] not in CALLS or str(logs) not in match[3] or "AT_EMPTY_PATH" in match[3]:
            continue
        if match[2] == "getdents64" and match[3].endswith("= 0"):
            continue  # the end of a listing
        if since <= float(match[1]) < until:
            counted[CALLS[match[2]]] += 1
    return counted


class Search:
    """A master and a worker in one folder. The calls of one of them are counted, by strace."""

    kinds = tuple(KINDS)

    def __init__(self, top: Path, trials: int, objective: str) -> None:
        self.top = Path(tempfile.mkdtemp(dir=top))
        self.study, self.trace, self.objective = self.top / "noop.toml", self.top / "trace.txt", objective
        self.study.write_text(STUDY.format(trials=trials).replace("bench.noop:train", objective))

    def logs_of(self, program: str) -> Path:
        """The folder, as this program sees it."""
        return self.top / "logs"

    def start(self, command: list[str], *, counted: bool = False) -> subprocess.Popen[bytes]:
        """Start one of the two programs."""
        words = [word.format(study=self.study, logs=self.logs_of(command[0])) for word in command]
        words = [sys.executable, *words, *([self.objective] if command is WORKER else [])]
        return subprocess.Popen([*(self.counter() if counted else ()), *words], cwd=ROOT, stdout=subprocess.DEVNULL)

    def counter(self) -> list[str]:
        """The program that counts the calls of the one that follows."""
        return shlex.split(f"strace -D -f -y -qq -ttt -o {self.trace} -e trace={','.join(CALLS)}")

    def mark(self, program: str) -> Any:
        """This moment."""
        return time.time()

    def between(self, begun: Any, ended: Any) -> Counter[str]:
        """The calls between two moments, when both programs have ended."""
        return count(self.trace, self.logs_of(""), begun, ended)


class MooseFSSearch(Search):
    """Each of both on a mount of its own. What its client has counted is known at any moment."""

    kinds = tuple(COUNTERS)

    def __init__(self, mounts: Sequence[Path], top: Path, trials: int, objective: str) -> None:
        super().__init__(top, trials, objective)
        self._mounts = {MASTER[0]: mounts[0], WORKER[0]: mounts[1]}

    def logs_of(self, program: str) -> Path:
        """The folder on this program's mount."""
        return self._mounts[program] / self.top.name

    def counter(self) -> list[str]:
        """Nothing: the client counts."""
        return []

    def mark(self, program: str) -> Any:
        """The client's counters."""
        lines = (line.split(": ") for line in (self._mounts[program] / ".stats").read_text().splitlines())
        told = {name: int(value) for name, value in lines if value.isdecimal()}
        return Counter({kind: sum(told[name] for name in names) for kind, names in COUNTERS.items()})

    def between(self, begun: Any, ended: Any) -> Counter[str]:
        """The difference."""
        return Counter(ended - begun)


NewSearch = Callable[[int, str], Search]  # of a number of trials, and an objective


def of_a_search(program: list[str], other: list[str], search: Search) -> Counter[str]:
    """What one of the two programs asks for in a whole search."""
    begun = search.mark(program[0])
    processes = [search.start(program, counted=True), search.start(other)]
    assert [process.wait() for process in processes] == [0, 0]
    return search.between(begun, search.mark(program[0]))


def of_a_trial(program: list[str], other: list[str], new_search: NewSearch) -> dict[str, float]:
    """What a trial costs one of the two programs."""
    searches = [new_search(trials, "bench.noop:train") for trials in (FEW, MANY)]
    few, many = (of_a_search(program, other, search) for search in searches)
    return {kind: round((many[kind] - few[kind]) / (MANY - FEW), 2) for kind in searches[0].kinds}


def of_a_minute(program: list[str], others: list[list[str]], seconds: float, new_search: NewSearch) -> dict[str, float]:
    """What a program asks for in a minute in which nothing ends."""
    search = new_search(1, "bench.operations:train")
    processes = [search.start(other) for other in others]
    time.sleep(SETTLED)
    processes.append(search.start(program, counted=True))
    time.sleep(SETTLED)
    begun = search.mark(program[0])
    time.sleep(seconds)
    ended = search.mark(program[0])
    for process in processes:
        process.kill()
        process.wait()
    counted = search.between(begun, ended)
    return {kind: round(counted[kind] * 60 / seconds, 1) for kind in search.kinds}


def measure(new_search: NewSearch, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """What is counted, one after another."""
    yield "worker, a trial", of_a_trial(WORKER, MASTER, new_search)
    yield "master, a trial", of_a_trial(MASTER, WORKER, new_search)
    yield "worker that trains, a minute", of_a_minute(WORKER, [MASTER], seconds, new_search)
    yield "worker that waits, a minute", of_a_minute(WORKER, [MASTER, WORKER], seconds, new_search)
    yield "master, a minute", of_a_minute(MASTER, [WORKER], seconds, new_search)


def train(settings, report):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """An objective that says nothing for a long time."""
    time.sleep(3600)
    return {"validation_error": 0.0}


def main() -> None:
    """Count, print a table, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to measure (default: the temporary directory)")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of each minute (default: 30)")
    parser.add_argument("--moosefs", type=Path, nargs=2, metavar="MOUNT", help="of the master, of the worker")
    arguments = parser.parse_args()
    counted = {}
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as top:
        new_search: NewSearch = partial(Search, Path(top))
        if arguments.moosefs:
            new_search = partial(MooseFSSearch, arguments.moosefs, Path(top))
        for what, counts in measure(new_search, arguments.seconds):
            counted[what] = counts
            print(f"{what:30} {'  '.join(f'{number:g} {kind}' for kind, number in counts.items())}", flush=True)
    options = "--moosefs DIR/host1 DIR/host2" if arguments.moosefs else " ".join(sys.argv[1:])
    record = {"command": f"python -m bench.operations {options}".strip(), **machine(), "operations": counted}
    name = "operations-moosefs" if arguments.moosefs else "operations"
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
