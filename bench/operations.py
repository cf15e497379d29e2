"""Count what master and worker ask of the shared folder: by kind, for each trial and for each minute.

    python -m bench.operations [--dir DIR] [--seconds 30]

It runs them under strace. What a trial costs is the difference between a search of many trials and one of few, divided
by the number of trials between: so the start does not count. A minute is counted for some seconds, after some others.
`stat` of an open file and `close` are left out: no file server hears of the first, and each `open` has one `close`. It
writes everything to bench/results/operations.json.
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
from collections.abc import Iterator
from pathlib import Path

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
FEW, MANY = 20, 60  # trials
SETTLED = 8.0  # seconds after which a program does what it will do for long
_LINE = re.compile(r"\d+ +([\d.]+) (\w+)\((.*)")
MASTER = ["master.py", "{study}", "--logs", "{logs}", "--workers", "0"]
WORKER = ["worker.py", "--logs", "{logs}", "--device", "cpu", "--objective"]


def count(trace: Path, logs: Path, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
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
    """A master and a worker in one folder; one of them, or both, under strace."""

    def __init__(self, directory: Path, trials: int, objective: str = "bench.noop:train") -> None:
        self.logs, self.study = directory / "logs", directory / "noop.toml"
        self.trace = directory / "trace.txt"
        self.objective = objective
        self.study.write_text(STUDY.format(trials=trials).replace("bench.noop:train", objective))

    def start(self, command: list[str], *, traced: bool = False) -> subprocess.Popen[bytes]:
        """Start one of the two programs."""
        words = [word.format(study=self.study, logs=self.logs) for word in command]
        words = [sys.executable, *words, *([self.objective] if words[0] == "worker.py" else [])]
        if traced:
            words = shlex.split(f"strace -D -f -y -qq -ttt -o {self.trace} -e trace={','.join(CALLS)}") + words
        return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)


def of_a_search(program: list[str], other: list[str], trials: int, directory: Path) -> Counter[str]:
    """What one of the two programs asks for in a whole search."""
    search = Search(directory, trials)
    processes = [search.start(program, traced=True), search.start(other)]
    assert [process.wait() for process in processes] == [0, 0]
    return count(search.trace, search.logs)


def of_a_trial(program: list[str], other: list[str], top: Path) -> dict[str, float]:
    """What a trial costs one of the two programs."""
    few, many = (of_a_search(program, other, trials, room(top)) for trials in (FEW, MANY))
    return {kind: round((many[kind] - few[kind]) / (MANY - FEW), 2) for kind in KINDS}


def of_a_minute(
    traced: list[str], others: list[list[str]], objective: str, seconds: float, top: Path
) -> dict[str, float]:
    """What a program asks for in a minute in which nothing ends."""
    search = Search(room(top), 1, objective)
    processes = [search.start(other) for other in others]
    time.sleep(SETTLED if others else 0)
    processes.append(search.start(traced, traced=True))
    time.sleep(SETTLED + seconds)
    begun = time.time() - seconds
    for process in processes:
        process.kill()
        process.wait()
    counted = count(search.trace, search.logs, begun, begun + seconds)
    return {kind: round(counted[kind] * 60 / seconds, 1) for kind in KINDS}


def room(top: Path) -> Path:
    """A new directory."""
    return Path(tempfile.mkdtemp(dir=top))


def measure(top: Path, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    """What is counted, one after another."""
    slow = "bench.operations:train"
    yield "worker, a trial", of_a_trial(WORKER, MASTER, top)
    yield "master, a trial", of_a_trial(MASTER, WORKER, top)
    yield "worker that trains, a minute", of_a_minute(WORKER, [MASTER], slow, seconds, top)
    yield "worker that waits, a minute", of_a_minute(WORKER, [MASTER, WORKER], slow, seconds, top)
    yield "master, a minute", of_a_minute(MASTER, [WORKER], slow, seconds, top)


def train(settings, report):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """An objective that says nothing for a long time."""
    time.sleep(3600)
    return {"validation_error": 0.0}


def main() -> None:
    """Count, print a table, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to measure (default: the temporary directory)")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of each minute (default: 30)")
    arguments = parser.parse_args()
    counted = {}
    print(f"{'':30} {' '.join(f'{kind:>6}' for kind in KINDS)}")
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as top:
        for what, counts in measure(Path(top), arguments.seconds):
            counted[what] = counts
            print(f"{what:30} {' '.join(f'{number:6g}' for number in counts.values())}", flush=True)
    record = {"command": " ".join(["python -m bench.operations", *sys.argv[1:]]), **machine(), "operations": counted}
    (RESULTS / "operations.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
