"""Check and measure on a GPU what no test here can: in under ten minutes, wherever there is one.

    python -m bench.gpu                          everything; writes bench/results/gpu.json
    python -m bench.gpu --device cpu --tiny      the same in small, to see that it runs

Checked: learning curves are those of the CPU; a training that is resumed comes to
the same bits; CUDA graphs do what their steps do; a process gets its share of the
GPU's memory and no more. Measured: one trial; images per second of the stock recipe
(bench/stock.py) and of ours; several trials at once, with and without NVIDIA's MPS;
float32, TF32 and bfloat16 over ten seeds.

The exit code is 0 if all checks hold, 1 if one does not, 2 without a GPU. What is not
begun within nine minutes is left out, and said.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.training import EPOCHS, ROOT, SETTLED, measure
from foldertune.cli import guard, new_parser
from foldertune.errors import UserError
from foldertune.launch.machine import count_cores
from foldertune.running.devices import mps_is_running
from foldertune.trainer.report import Listener, Report
from training.settings import complete

RESULTS = ROOT / "bench" / "results" / "gpu.json"
BEGIN_WITHIN = 540.0  # seconds, for each check and measurement
SAME_CURVE = 0.02  # the relative difference of losses that rounding may make in a few epochs
TF32 = "tf32"  # float32 whose products are rounded: a switch of PyTorch's, no setting of ours
MEASURED = ("stock", "float32", "bfloat16")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    epochs: int = 10
    seeds: int = 10
    seconds: float = 4.0
    settled: float = SETTLED
    shapes: tuple[tuple[int, int], ...] = ((32, 100), (64, 64), (256, 500))  # filters, batch size
    processes: tuple[int, ...] = (1, 2, 4, 8)
    sides: tuple[str, ...] = MEASURED
    settings: tuple[tuple[str, Any], ...] = (("learning_rate", 0.1), ("batch_size", 100), ("filters", 32))


TINY = Size(1, 2, 0.1, 0.0, ((3, 250),), (2,), (), (("batch_size", 1000), ("filters", 2)))


class Repeater:
    """Stands for CUDA graphs where there are none."""

    def record(self, step: Callable[[], None], count: int) -> Callable[[], None]:
        """Those steps themselves."""
        from training.graphs import repeat

        return lambda: repeat(step, count)


def new_training(size: Size, device: str, recorder: Repeater | None = None, **settings: Any) -> Any:
    """A training, with its steps recorded on a GPU, or by this recorder."""
    from training.cnn import Training, set_up_process
    from training.data import load

    set_up_process()
    values = complete({"precision": "float32", "epochs": size.epochs, **dict(size.settings), **settings})
    return Training(values, load("small", device), device, recorder)


def train(training: Any, epochs: int) -> None:
    """Train until it has had so many epochs."""
    while len(training.history) < epochs:
        while training.advance():
            pass
        training.end_epoch()


def synchronise(device: str) -> None:
    """Wait until the device has done what it was told."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)


def distance(one: Any, other: Any) -> float:
    """The relative distance of two vectors."""
    one, other = one.double().cpu(), other.double().cpu()
    return float((one - other).norm() / other.norm())


# ---------------------------------------------------------------- checks: each returns "ok" and its figures


def check_curves(size: Size, device: str) -> Figures:
    """Without dropout, and with one order of examples, the curves of CPU and GPU differ by rounding alone."""
    import torch

    import training.cnn as cnn

    epochs, draw = min(size.epochs, 3), cnn.draw_order
    cnn.draw_order = lambda examples, batch_size, device: draw(examples, batch_size, "cpu").to(device)
    try:
        trainings = [new_training(size, place, dropout=0.0) for place in ("cpu", device)]
        curves = []
        for training in trainings:
            torch.manual_seed(1)
            train(training, epochs)
            curves.append([epoch["training_loss"] for epoch in training.history])
    finally:
        cnn.draw_order = draw
    apart = max(abs(a - b) / a for a, b in zip(*curves, strict=True))
    return {"ok": apart <= SAME_CURVE, "cpu": curves[0], "here": curves[1], "largest relative difference": apart}


def check_resume(size: Size, device: str) -> Figures:
    """A training that goes on from a checkpoint in the middle of an epoch comes to the same bits."""
    found = {}
    for precision in ("float32", "bfloat16"):
        first = new_training(size, device, precision=precision)
        first.advance()
        saved = first.save()
        train(first, 2)
        second = type(first).restore(saved, first.values, first.data, device)
        train(second, 2)
        found[precision] = bool((first.network.weights == second.network.weights).all())
    return {"ok": all(found.values()), "equal bits": found}


def check_graphs(size: Size, device: str) -> Figures:
    """Recorded and unrecorded steps come to the same weights. How much faster are the recorded ones?"""
    found: Figures = {"ok": True}
    for precision in ("float32", "bfloat16"):
        trainings, seconds = {}, {}
        for name in ("unrecorded", "recorded"):
            stand_in = Repeater() if device == "cpu" else None
            training = trainings[name] = new_training(size, device, stand_in, precision=precision)
            is_recorded = len(training._runs) > 1
            if name == "unrecorded":
                training._runs = {1: training._step}
            train(training, 1)
            synchronise(device)
            start = time.perf_counter()
            while training.advance():
                pass
            synchronise(device)
            seconds[name] = time.perf_counter() - start
        apart = distance(*(training.network.weights for training in trainings.values()))
        rates = {name: training._steps / seconds[name] for name, training in trainings.items()}
        found[precision] = {"recorded": is_recorded, "relative difference": apart, "steps per second": rates}
        found["ok"] &= is_recorded and apart <= SAME_CURVE
    return found


def check_memory(size: Size, device: str) -> Figures:
    """Of two processes that share a GPU, one that takes more than its share fails, and the other does not notice."""
    if device == "cpu":
        return {"ok": True, "left out": "a CPU has no share"}
    take = "import sys, torch; from training.cnn import limit_memory; limit_memory({device!r}); "
    take += "whole = torch.cuda.get_device_properties({device!r}).total_memory\n"
    take += (
        "try: torch.empty(int({share} * whole), dtype=torch.uint8, device={device!r}); print('has it', flush=True)\n"
    )
    take += "except torch.OutOfMemoryError: print('out of memory', flush=True)\nsys.stdin.read()"
    environment = {**os.environ, "TRIALS_PER_GPU": "2"}
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", take.format(device=device, share=share)],
                    cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )
            for share in (0.4, 0.6)
        ]  # fmt: skip
        said = [process.stdout.readline().strip() for process in both if process.stdout]
    return {"ok": said == ["has it", "out of memory"], "asked for 40 % and 60 %": said}


# ---------------------------------------------------------------- measurements


def measure_trial(size: Size, device: str) -> Figures:
    """One trial from its settings to its result, twice: the first one also loads what it needs."""
    from training.cnn import train

    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = train({**dict(size.settings), "epochs": size.epochs}, Report(Listener(), device))
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "epochs": size.epochs, "validation_error": result["validation_error"]}


def measure_sides(size: Size, device: str) -> Figures:
    """Images per second of the stock recipe and of ours, one process each."""
    return {
        f"{filters} filters, batch {batch}": {
            side: measure(side, (filters, batch), 1, size.seconds, 0.0)[0] for side in size.sides
        }
        for filters, batch in size.shapes
    }


def measure_sharing(size: Size, device: str) -> Figures:
    """Images per second of all trials together, by their number, taking turns and with MPS."""

    def by_number(*, more: bool = False) -> dict[int, float]:
        return {
            processes: sum(
                each["images per second"]
                for each in measure("auto", size.shapes[0], processes, size.seconds, size.settled)
            )
            for processes in size.processes
            if processes > 1 or not more
        }

    found: Figures = {"mps was running": mps_is_running(), "as it is": by_number()}
    if device != "cpu" and not mps_is_running():
        with mps() as complaint:
            found["with mps"] = complaint or by_number(more=True)
    return found


@contextlib.contextmanager
def mps() -> Iterator[str]:
    """Run NVIDIA's MPS for a while. Gives what is wrong, or nothing."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield "nvidia-cuda-mps-control is not installed"
        return
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        os.environ |= {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        try:
            begun = subprocess.run([control, "-d"], capture_output=True, text=True, timeout=60, check=False)
            yield (begun.stderr or begun.stdout).strip() if begun.returncode else ""
        finally:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run([control], input="quit\n", capture_output=True, text=True, timeout=60, check=False)
            os.environ.clear()
            os.environ.update(before)


def measure_precisions(size: Size, device: str) -> Figures:
    """Results of the same settings in float32, TF32 and bfloat16, over seeds."""
    from torch import backends

    from training.cnn import set_up_process

    set_up_process()
    found: Figures = {}
    for name in ("float32", TF32, "bfloat16"):
        ends, start = [], time.perf_counter()
        for seed in range(1, size.seeds + 1):
            precision = "float32" if name == TF32 else name
            backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = name == TF32
            training = new_training(size, device, precision=precision, seed=seed)
            train(training, size.epochs)
            backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = False
            ends.append(training.history[-1])
        found[name] = {
            "seconds per trial": (time.perf_counter() - start) / size.seeds,
            "training_loss": [end["training_loss"] for end in ends],
            "validation_error": [1 - end["validation_accuracy"] for end in ends],
        }
    for name in (TF32, "bfloat16"):
        found[name]["difference"] = {
            metric: compare(found[name][metric], found["float32"][metric])
            for metric in ("training_loss", "validation_error")
        }
    return found


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Figures:
    """The difference of two means, with its 95 % confidence interval (Welch)."""
    from scipy import stats

    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    return {"mean": statistics.mean(ours) - statistics.mean(theirs), "interval": [interval.low, interval.high]}


ALL: dict[str, Callable[[Size, str], Figures]] = {
    "curves as on the CPU": check_curves,
    "equal bits after a resume": check_resume,
    "graphs against steps": check_graphs,
    "shares of memory": check_memory,
    "one trial": measure_trial,
    "stock recipe and ours": measure_sides,
    "precisions": measure_precisions,
    "several at once": measure_sharing,
}


def measure_all(size: Size, device: str, say: Callable[[str], None] = print) -> Figures:
    """Everything, one after another. What raises an error does not hold, and the others have their turn."""
    begun, found = time.monotonic(), {}
    for name, act in ALL.items():
        start = time.monotonic()
        if start - begun > BEGIN_WITHIN:
            figures: Figures = {"left out": f"not begun within {BEGIN_WITHIN:.0f} s"}
        else:
            try:
                figures = act(size, device)
            except Exception as error:  # of PyTorch, the driver or the GPU: they raise anything
                figures = {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:2000]}
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "measured"}[figures.get("ok")]
        say(f"{name}: {figures.get('left out') or verdict} ({time.monotonic() - start:.1f} s)")
        say(f"    {json.dumps({key: value for key, value in figures.items() if key != 'ok'})[:1000]}")
        found[name] = figures
    return found


def to_markdown(figures: Figures) -> list[str]:
    """Two tables, in thousands of images a second: the stock recipe and ours; several trials at once, and with MPS."""
    lines = ["| filters, batch | stock | float32 | bfloat16 | trials per hour: stock | float32 | bfloat16 |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for shape, sides in figures["stock recipe and ours"].items():
        rates = [f"{sides[side]['images per second'] / 1000:,.0f}" for side in MEASURED]
        trials = [f"{3600 / (sides[side]['start seconds'] + EPOCHS * sides[side]['epoch seconds']):,.0f}"
                  for side in MEASURED]  # fmt: skip
        lines.append(f"| {shape.replace(' filters, batch', ',')} | {' | '.join(rates + trials)} |")
    sharing = figures["several at once"]
    for title in ("as it is", "with mps"):
        numbers = {1: sharing["as it is"]["1"], **{int(key): rate for key, rate in sharing[title].items()}}
        lines.append(f"| {title} | {' | '.join(f'{numbers[key] / 1000:,.0f}' for key in sorted(numbers))} |")
    return lines


def describe_machine(device: str) -> Figures:
    """What it was measured on."""
    import torch

    found: Figures = {"cores": count_cores(), "torch": torch.__version__, "device": device}
    if device != "cpu":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        asked = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
            found["driver, memory"] = done.stdout.strip()
    return found


def choose(device: str | None) -> str:
    """The device: the first GPU, unless another is named. Raises UserError without one."""
    import torch

    torch.set_num_threads(1)  # as in a worker
    if device is None and not torch.cuda.is_available():
        raise UserError("bench.gpu: PyTorch sees no GPU here; to see that it runs: --device cpu --tiny")
    return device or "cuda:0"


def main() -> int:
    """Check, measure, print, and write bench/results/gpu.json. Returns the exit code."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", help="cuda:0 or cpu (default: the first GPU)")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of each, no file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: bench/results/gpu.json)")
    arguments = parser.parse_args()
    device = choose(arguments.device)
    start = time.monotonic()
    figures = measure_all(TINY if arguments.tiny else Size(), device)
    record: Figures = {"command": "python -m bench.gpu", "machine": describe_machine(device), "figures": figures}
    record["seconds"] = time.monotonic() - start
    out = arguments.out or (None if arguments.tiny or device == "cpu" else RESULTS)
    if out:
        out.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(each.get("ok") is False for each in figures.values()))


if __name__ == "__main__":
    sys.exit(guard(main))
