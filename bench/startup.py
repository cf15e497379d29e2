"""Measure the time to a worker's first claim, to import torch alone, and to load the data set.

    python -m bench.startup [--rounds 5]

Three kinds of processes take turns: one imports torch; a worker claims the only
trial of a folder; one has imported torch and loads the full data set. The first
round warms up and is left out. It writes everything to bench/results/.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from foldertune.cli import new_parser
from foldertune.protocol import Folder, TrialName

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "startup.json"
LOAD = """
import time, torch
from training.data import load
start = time.perf_counter()
load("full")
print(time.perf_counter() - start)
"""


def seconds_until(word: str, *command: str) -> float:
    """Seconds from the start of a Python program until it prints a line with this word. Then it is stopped."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if word in line:
                break
        else:
            sys.exit(f"error: python {' '.join(command)}: ended without a word of '{word}'")
        seconds = time.perf_counter() - start
        process.terminate()
    return seconds


def claim_once() -> float:
    """Seconds until a worker claims the only trial of a new folder."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Folder(Path(directory))
        folder.seen.mkdir()
        folder.write_study({"objective": "exercise3:train", "metric": "validation_error"})
        folder.publish(TrialName(0, 1), {"epochs": 1000}, lease=180.0)
        return seconds_until("trial 0", "worker.py", "--logs", directory, "--device", "cpu")


def main() -> None:
    """Measure, print the medians, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    rounds = parser.parse_args().rounds
    raw = []
    for _ in range(rounds + 1):
        imported = seconds_until("done", "-c", "import torch; print('done', flush=True)")
        loaded = float(subprocess.check_output([sys.executable, "-c", LOAD], cwd=ROOT, text=True))
        raw.append({"import torch": imported, "first claim": claim_once(), "load": loaded})
    raw = raw[1:]
    for name in raw[0]:
        print(f"{name}: {statistics.median(each[name] for each in raw):.2f} s")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    RESULTS.write_text(
        json.dumps({"command": "python -m bench.startup", "machine": machine, "raw": raw}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
