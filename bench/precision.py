"""Compare bfloat16 with float32: the same trainings in both precisions, seed by seed.

    python -m bench.precision                20 to 60 seeds of four settings (about 25 minutes on two cores)
    python -m bench.precision --logs DIR     keep the four folders there; a second call resumes them

Each setting is a grid study over precision and seed, searched by `master.py` with
its own workers. For the final training loss and the validation error it prints
mean ± standard deviation in both precisions, their difference with its 95 %
confidence interval (Welch), and p of the Mann-Whitney test, which asks whether one
tends to be larger than the other. For the number of diverged trainings it prints p
of Fisher's exact test. It writes everything to bench/results/.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from foldertune.cli import new_parser
from foldertune.launch.machine import count_cores
from foldertune.reading.reader import read_results

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "precision.json"
PRECISIONS = ("float32", "bfloat16")
METRICS = ("training_loss", "validation_error")
SETTINGS = {
    "usual": {"learning_rate": 0.2, "momentum": 0.0, "batch_size": 100, "filters": 32, "epochs": 15},
    "momentum": {"learning_rate": 0.05, "momentum": 0.9, "batch_size": 64, "filters": 32, "epochs": 15},
    "edge of divergence": {"learning_rate": 0.3, "momentum": 0.0, "batch_size": 16, "filters": 16, "epochs": 10},
    "diverging": {"learning_rate": 0.5, "momentum": 0.0, "batch_size": 16, "filters": 16, "epochs": 4},
}

SEEDS = {"usual": 20, "momentum": 20, "edge of divergence": 60, "diverging": 20}


def search(name: str, logs: Path) -> dict[str, list[dict[str, float]]]:
    """Train a setting with all seeds in both precisions. Returns the metrics by precision."""
    folder = logs / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    fixed = "\n".join(f"{key} = {value}" for key, value in SETTINGS[name].items())
    space = f"precision = {json.dumps(PRECISIONS)}\nseed = {list(range(1, SEEDS[name] + 1))}"
    study = folder.with_suffix(".toml")
    study.write_text(
        f'strategy = "grid"\nmetric = "validation_error"\n[fixed]\ndata = "small"\n{fixed}\n[space]\n{space}\n'
    )
    command = [sys.executable, "master.py", str(study), "--logs", str(folder), "--workers", str(count_cores())]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    trials = read_results(folder, epochs=False).ended
    return {
        precision: [
            {metric: float((trial.result or {})[metric]) for metric in (*METRICS, "diverged")}
            for trial in trials
            if trial.settings["precision"] == precision
        ]
        for precision in PRECISIONS
    }


def compare(name: str, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Lines of a Markdown table, one per metric."""
    from scipy import stats

    lines = []
    for metric in METRICS:
        single, low = ([run[metric] for run in runs[precision]] for precision in PRECISIONS)
        interval = stats.ttest_ind(low, single, equal_var=False).confidence_interval()
        p = stats.mannwhitneyu(low, single).pvalue
        cells = [f"{stats.tmean(values):.4f} ± {stats.tstd(values):.4f}" for values in (single, low)]
        lines.append(
            f"| {name} | {metric} | {' | '.join(cells)} | {interval.low:+.4f} … {interval.high:+.4f} | {p:.2f} |"
        )
    diverged = [sum(int(run["diverged"]) for run in runs[precision]) for precision in PRECISIONS]
    p = stats.fisher_exact([[count, SEEDS[name] - count] for count in diverged]).pvalue
    return [*lines, f"| {name} | diverged, of {SEEDS[name]} | {diverged[0]} | {diverged[1]} | | {p:.2f} |"]


def main() -> None:
    """Train, compare, print the table, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--logs", type=Path, metavar="DIR", help="where to search (default: a temporary directory)")
    parser.add_argument("--out", type=Path, metavar="FILE", default=RESULTS, help="where to write the figures")
    arguments = parser.parse_args()
    logs = arguments.logs or Path(tempfile.mkdtemp(prefix="precision-"))
    print("| setting | | float32 | bfloat16 | difference, 95 % interval | p |\n|---|---|---:|---:|---:|---:|")
    runs = {}
    for name in SETTINGS:
        runs[name] = search(name, logs)
        print("\n".join(compare(name, runs[name])), flush=True)
    record = {
        "command": "python -m bench.precision",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "settings": SETTINGS,
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
