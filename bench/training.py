"""Measure trials per hour with the stock recipe and with ours, side by side.

    python -m bench.training                 all settings, three rounds (50 minutes on two cores)
    python -m bench.training --rounds 1 --seconds 5

Each measurement runs one process alone, or as many at once as there are cores,
each with one thread. They start together and train for some seconds; the two
sides take turns. Images per second count training only. Trials per hour count
scenario 2's 50 epochs of 5,000 images, the validation after each, and the set-up:
in the stock recipe that is the start of a process, its imports and its data; in
ours only the network, because the worker did the rest long before. The peak is
that of a 1024 × 1024 matrix product in the faster precision, measured in the same
round. It prints medians of the rounds, and writes everything to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from foldertune.cli import new_parser
from foldertune.launch.machine import count_cores
from training.settings import complete

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "training.json"
SHAPES = [(10, 16), (32, 20), (32, 100), (64, 64), (99, 250), (256, 500)]  # filters, batch size
EPOCHS, TRAINING_IMAGES = 50, 5_000
SETTLED = 12.0  # seconds; longer than any process needs for its set-up
SIDES = ("stock", "float32", "auto")


def flops(filters: int) -> int:
    """Operations per image, forward and backward: two per multiply-add, three times those of the forward pass."""
    forward = 24 * 24 * 25 * filters + 8 * 8 * 25 * filters**2 + 16 * filters * 256 + 2560
    return 3 * 2 * forward


def train_for(side: str, filters: int, batch_size: int, seconds: float, born: float) -> dict[str, Any]:
    """Train, in a process that was started at `born` (time.time). Returns the times of set-up and epochs.

    Training begins SETTLED seconds after `born`, when all processes have finished their set-up.
    """
    import torch

    torch.set_num_threads(1)
    settings = complete({"filters": filters, "batch_size": batch_size, "learning_rate": 0.05})
    epochs: list[tuple[float, float]] = []  # seconds of training; seconds since the end of the last epoch
    last = preparing = 0.0

    def after_epoch(training_seconds: float) -> bool:
        nonlocal last
        now = time.perf_counter()
        epochs.append((training_seconds, now - last))
        last = now
        return sum(whole for _, whole in epochs[1:]) > seconds

    if side == "stock":
        from bench import stock

        def begin_together() -> None:
            nonlocal last, preparing
            preparing = time.time() - born
            time.sleep(max(born + SETTLED - time.time(), 0))
            last = time.perf_counter()

        stock.train(settings, begin_together, lambda training_seconds, *_: after_epoch(training_seconds))
    else:
        from training.cnn import Training, choose_device, set_up_process
        from training.data import load

        set_up_process()
        device = choose_device()
        data = load("small", device)
        start = time.perf_counter()
        training = Training({**settings, "precision": side}, data, device)
        preparing = time.perf_counter() - start
        time.sleep(max(born + SETTLED - time.time(), 0))
        last = begin = time.perf_counter()
        while True:
            while training.advance():
                pass
            if device != "cpu":
                torch.cuda.synchronize()
            training_seconds = time.perf_counter() - begin
            training.end_epoch()
            if after_epoch(training_seconds):
                break
            begin = time.perf_counter()
    counted = epochs[1:]  # the first one warms up
    return {
        "images per second": TRAINING_IMAGES // batch_size * batch_size / statistics.mean(each for each, _ in counted),
        "epoch seconds": statistics.mean(whole for _, whole in counted),
        "start seconds": preparing,
    }


def measure(side: str, shape: tuple[int, int], processes: int, seconds: float) -> list[dict[str, float]]:
    """The measurements of this many processes that train at once."""
    command = [sys.executable, "-m", "bench.training", "--child", side, *map(str, shape), str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    born = str(time.time())
    children = [
        subprocess.Popen([*command, born], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        sys.exit(f"error: {' '.join(command)} failed")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def measure_peak(precision: str) -> float:
    """The FLOPS of one thread that multiplies two 1024 × 1024 matrices."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(1024, 1024, dtype=getattr(torch, precision))
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(3):
            a @ a
        best = max(best, 3 * 2 * 1024**3 / (time.perf_counter() - start))
    return best


def to_markdown(raw: list[dict[str, Any]], peaks: list[dict[str, float]]) -> str:
    """A table of medians: trials per hour of each side, images per second of ours; a line per shape and processes."""
    lines = ["| filters, batch | at once | stock | float32 | auto | ratio | images/s | of peak |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
    for shape in SHAPES:
        for processes in sorted({entry["processes"] for entry in raw}):
            rates, trials = {}, {}
            for side in SIDES:
                runs = [
                    entry["runs"] for entry in raw if (entry["side"], entry["processes"]) == (side, processes)
                    and tuple(entry["shape"]) == shape
                ]  # fmt: skip
                rates[side] = statistics.median(sum(run["images per second"] for run in each) for each in runs)
                trials[side] = statistics.median(
                    sum(3600 / (run["start seconds"] + EPOCHS * run["epoch seconds"]) for run in each) for each in runs
                )
            peak = processes * statistics.median(max(each.values()) for each in peaks)
            lines.append(
                f"| {shape[0]}, {shape[1]} | {processes} | {trials['stock']:.1f} "
                f"| {trials['float32']:.1f} | {trials['auto']:.1f} | {trials['auto'] / trials['stock']:.1f} "
                f"| {rates['auto']:,.0f} | {100 * rates['auto'] * flops(shape[0]) / peak:.0f} % |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print the medians, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument(
        "--seconds", type=float, default=5, metavar="S", help="seconds of each measurement (default: 5)"
    )
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)  # side, filters, batch size, seconds, born
    arguments = parser.parse_args()
    if arguments.child:
        side, filters, batch_size, seconds, born = arguments.child
        print(json.dumps(train_for(side, int(filters), int(batch_size), float(seconds), float(born))))
        return
    many = count_cores()
    raw: list[dict[str, Any]] = []
    peaks: list[dict[str, float]] = []
    for number in range(arguments.rounds):
        peaks.append({precision: measure_peak(precision) for precision in ("float32", "bfloat16")})
        for shape in SHAPES:
            for processes in (1, many):
                for side in SIDES:
                    runs = measure(side, shape, processes, arguments.seconds)
                    raw.append({"round": number, "side": side, "shape": shape, "processes": processes, "runs": runs})
                    rate = sum(run["images per second"] for run in runs)
                    print(f"{number + 1}: {side:8} {shape}  {processes} at once  {rate:8.0f} images/s", flush=True)
    print(to_markdown(raw, peaks))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    record = {"command": "python -m bench.training", "machine": machine, "peaks": peaks, "raw": raw}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
