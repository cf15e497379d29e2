"""Interrupted trainings are resumed by later attempts, with the real network and real signals."""

from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import time

import pytest

from foldertune.protocol import Claim, Folder, TrialName, to_line
from foldertune.trainer.report import Report
from tests.conftest import Curve, wait_for

SETTINGS = {
    "data": "small",
    "epochs": 3,
    "filters": 4,
    "batch_size": 250,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "seed": 3,
}
STEPS = 20  # of an epoch


class Interrupted(Exception):
    pass


class Recorder(Report):
    """Keeps the learning curve, and stops with a checkpoint at one step (or never)."""

    def __init__(self, saved=None, stop_at=None):
        listener = Curve()
        super().__init__(listener, "cpu")
        self.curve, self.saved, self.stop_at, self.steps = listener.epochs, saved, stop_at, 0

    def resume(self, read):
        return None if self.saved is None else read(self.saved)

    @property
    def checkpoint_due(self):
        self.steps += 1
        return self.steps == self.stop_at

    def checkpoint(self, data):
        self.saved = data
        raise Interrupted


def without_time(record):
    return {key: value for key, value in record.items() if key != "seconds"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread, like the workers: another number of threads adds up in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted():
    """The learning curve and the metrics of an undisturbed training."""
    from training.cnn import train

    recorder = Recorder()
    result = train(SETTINGS, recorder)
    return list(map(without_time, recorder.curve)), without_time(result)


@pytest.mark.parametrize("seed", range(3))
def test_an_interrupted_training_ends_with_the_same_bits(uninterrupted, seed):
    from training.cnn import train

    stops = sorted(random.Random(seed).sample(range(1, 3 * STEPS + 1), 4))  # among them ends of epochs
    stops = [1, STEPS, 3 * STEPS] if seed == 0 else stops
    print("interrupted after steps", stops)
    saved, done = None, 0
    for stop in stops:
        recorder = Recorder(saved, stop - done)
        with pytest.raises(Interrupted):
            train(SETTINGS, recorder)
        saved, done = recorder.saved, stop
    recorder = Recorder(saved)
    result = train(SETTINGS, recorder)
    assert (list(map(without_time, recorder.curve)), without_time(result)) == uninterrupted
    assert [epoch["seconds"] for epoch in recorder.curve] == sorted(epoch["seconds"] for epoch in recorder.curve)


# ---- through the folder

STUDY = """
strategy = "grid"
metric = "validation_error"
[fixed]
data = "small"
epochs = 3
filters = 4
batch_size = 250
momentum = 0.9
[space]
learning_rate = [0.1]
"""


def start_study(bench, *options, study=STUDY):
    file = bench.path / "one.toml"
    file.write_text(study)
    master = bench.master(file, "--lease", 5, *options)
    wait_for(lambda: bench.names("pending"), "the trial")
    return master


def exercise(bench, *options):
    return bench.start("worker.py", "--logs", bench.logs, "--device", "cpu", *options)


def wait_for_epochs(bench, count):
    """Wait until the running trial has reported this many epochs, and return its name."""
    return bench.wait_for_training(epochs=count)[0].name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_preempted_trial_is_gone_on_with_to_the_same_bits(bench, number):
    from training.cnn import train

    study = STUDY.replace("epochs = 3", "epochs = 6").replace("filters = 4", "filters = 16")
    master = start_study(bench, study=study)
    first = exercise(bench)
    wait_for_epochs(bench, 1)
    first.send_signal(number)
    said = bench.finish(first, 128 + number)
    assert "given back" in said
    assert (bench.folder.checkpoints / "trial-00000-1.checkpoint").exists()
    second = exercise(bench)
    assert "resumes from" in bench.finish(second)
    bench.finish(master)
    bench.assert_complete(1)
    [row] = bench.rows()
    assert row.attempt == 2 and list(bench.folder.checkpoints.iterdir()) == []
    trial = bench.folder.read(TrialName(0, 2, "seen"))
    recorder = Recorder()
    expected = train(trial.settings, recorder)
    assert without_time(trial.result) == without_time(expected)
    assert list(map(without_time, trial.epochs)) == list(map(without_time, recorder.curve))


def test_a_kill_9_costs_no_more_than_since_the_last_checkpoint(bench):
    master = start_study(bench, study=STUDY.replace("epochs = 3", "epochs = 40"))
    first = exercise(bench, "--checkpoint-every", 0.1)
    wait_for_epochs(bench, 3)
    first.kill()
    wait_for(lambda: (bench.folder.seen / "trial-00000-1.jsonl.lost").exists(), "the master to notice")
    second = exercise(bench)
    assert "resumes from" in bench.finish(second)
    bench.finish(master)
    bench.assert_complete(1)
    assert [epoch["epoch"] for epoch in bench.folder.read(TrialName(0, 2, "seen")).epochs] == list(range(1, 41))


def test_without_periodic_checkpoints_there_is_none_until_it_is_asked_for(bench):
    start_study(bench, study=STUDY.replace("epochs = 3", "epochs = 40"))
    worker = exercise(bench, "--checkpoint-every", 0)
    wait_for_epochs(bench, 3)
    assert list(bench.folder.checkpoints.iterdir()) == []
    worker.send_signal(signal.SIGINT)
    bench.finish(worker, 130)
    assert [path.name for path in bench.folder.checkpoints.iterdir()] == ["trial-00000-1.checkpoint"]


# ---- checkpoints are files, too: torn, foreign, hostile


@pytest.fixture
def claim(folder):
    folder.prepare()
    folder.publish(TrialName(7, 3), SETTINGS, lease=5.0)
    return folder.claim("me-1-abcd", iter([TrialName(7, 3)]))


def test_the_latest_readable_checkpoint_is_offered_first(folder, claim):
    for attempt, data in ((1, b"one"), (2, b"two\n\x00more"), (3, b"three")):
        Claim(folder, claim.name).save_checkpoint(SETTINGS, data)
        if attempt < 3:
            (folder.checkpoints / "trial-00007-3.checkpoint").rename(
                folder.checkpoints / f"trial-00007-{attempt}.checkpoint"
            )
    assert [data for _, data in claim.load_checkpoints(SETTINGS)] == [b"three", b"two\n\x00more", b"one"]
    assert list(claim.load_checkpoints({**SETTINGS, "seed": 4})) == []


def test_a_torn_checkpoint_is_none_at_whatever_byte(folder, claim):
    claim.save_checkpoint(SETTINGS, bytes(range(100)))
    path = folder.checkpoints / "trial-00007-3.checkpoint"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert list(claim.load_checkpoints(SETTINGS)) == []
    path.write_bytes(whole[:-1] + b"\x00")
    assert list(claim.load_checkpoints(SETTINGS)) == []


def checkpoint_of(data, settings=SETTINGS):
    return to_line({"settings": settings, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}) + data


class Bomb:
    def __reduce__(self):
        return (open, ("/tmp/hyperparameter-search-was-here", "w"))


def hostile_checkpoints():
    import pickle
    import zipfile

    import torch

    def saved(value):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()

    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**8)
    return {
        "code": pickle.dumps(Bomb()),
        "code in torch's format": saved(Bomb()),
        "compressed": compressed.getvalue(),
        "another shape": saved({"network": {}}),
        "a list": saved([1, 2]),
        "nothing": b"",
    }


def test_a_hostile_checkpoint_runs_no_code_and_the_training_begins_anew(bench, uninterrupted):
    hostile = hostile_checkpoints()
    settings = json.dumps(SETTINGS)
    bench.folder.prepare()
    for number, data in enumerate(hostile.values()):
        (bench.logs / f"trial-{90000 + number}-2.jsonl").write_text(f'{{"settings": {settings}}}\n')
        (bench.folder.checkpoints / f"trial-{90000 + number}-1.checkpoint").write_bytes(checkpoint_of(data))
    target = Folder(bench.logs).checkpoints / "trial-90000-2.checkpoint"
    target.symlink_to("/etc/passwd")
    master = start_study(bench)
    said = bench.finish(exercise(bench))
    bench.finish(master)
    assert said.count("can't resume from it") == len(hostile)
    for row in bench.rows():
        if row.trial >= 90000:
            assert without_time(row.metrics) == uninterrupted[1], row
    assert not list(bench.folder.checkpoints.iterdir())
    with pytest.raises(FileNotFoundError):
        open("/tmp/hyperparameter-search-was-here")


# ---- an objective of one's own


def test_an_objective_of_ones_own_can_be_gone_on_with(bench):
    master = bench.master(bench.study(trials=1, objective="resumable"), "--lease", 5)
    first = bench.worker("resumable")
    wait_for_epochs(bench, 3)
    first.send_signal(signal.SIGTERM)
    bench.finish(first, 143)
    bench.finish(bench.worker("resumable"))
    bench.finish(master)
    [row] = bench.rows()
    assert row.metrics["began_at"] >= 3 and row.metrics["epochs"] == 10


def test_a_training_that_ignores_the_signal_is_given_back_after_a_while(bench):
    bench.master(bench.study(trials=1, objective="heedless"), "--lease", 60)
    worker = bench.worker("heedless", "--grace", 1)
    wait_for_epochs(bench, 1)
    start = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    said = bench.finish(worker, 143)
    assert "given back" in said and time.monotonic() - start >= 1
    assert [str(name) for name in bench.names("pending")] == ["trial-00000-2.jsonl"]
