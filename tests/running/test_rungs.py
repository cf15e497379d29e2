"""Promotions by real masters and workers: a training goes on where its parent ended, whatever dies meanwhile."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter

import pytest

from foldertune.fidelity import SCHEDULES
from foldertune.protocol import Proposal, Trial
from foldertune.reading.reader import read_results
from foldertune.running.housekeeping import Housekeeping
from foldertune.running.master import Master
from foldertune.study_file import study_from_record
from tests.conftest import count, wait_for

BUDGET = 150


def study_of(bench, schedule, epochs=BUDGET, extra=""):
    file = bench.path / "rungs.toml"
    file.write_text(
        'objective = "tests.objectives:climbing"\nstrategy = "random"\nmetric = "loss"\n'
        f'[budget]\nepochs = {epochs}\n[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\nschedule = "{schedule}"\n'
        f'{extra}[space]\nx = {{ type = "float", low = 0.0, high = 1.0 }}\n'
    )
    return file


def trials(bench) -> dict[int, Trial]:
    return {trial.name.number: trial for trial in read_results(bench.logs).trials}


def loss_after(epochs, x):
    loss = 1.0
    for _ in range(epochs):
        loss = loss / 2 + x / 2
    return loss


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_epoch_is_trained_twice(bench, schedule):
    said = bench.search(study_of(bench, schedule), "--workers", 2)
    assert f"of {BUDGET} epochs are spent" in said
    found = trials(bench)
    bench.assert_complete(len(found))
    promoted = [trial for trial in found.values() if trial.parent]
    assert promoted and any(trial.settings["epochs"] == 9 for trial in promoted)
    for trial in found.values():
        epochs, result = trial.settings["epochs"], trial.result
        begun = found[trial.parent.number].settings["epochs"] if trial.parent else 0
        assert result["trained"] == epochs - begun, "only what is new"
        assert result["loss"] == loss_after(epochs, trial.settings["x"]) and result["seed"] == trial.settings["seed"]
        assert trial.resumed == (f"trial-{trial.parent.number:05d}-1.checkpoint" if trial.parent else None)
        before = found[trial.parent.number].result["seconds"] if trial.parent else 0.0
        assert result["seconds"] == pytest.approx(before + trial.seconds_at_work), "of the whole training"
    spent = sum(trial.result["trained"] for trial in found.values())
    assert BUDGET - 9 < spent <= BUDGET
    assert not list(bench.folder.checkpoints.iterdir())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_study_with_a_schedule_is_extended_to_exactly_its_new_budget(bench, schedule):
    """No checkpoints are left then, so a promotion of an earlier trial begins anew, to the same values."""
    said = bench.search(study_of(bench, schedule, 60), "--workers", 2)
    rungs = "1, 9" if schedule == "one-epoch" else "1, 3, 9"
    assert f"60 epochs, random search in {schedule} (epochs {rungs}) for the lowest loss" in said
    before = trials(bench)
    bench.search(study_of(bench, schedule, 60), "--workers", 2, "--epochs", 160)
    found = trials(bench)
    bench.assert_complete(len(found))
    assert {number: found[number].result for number in before} == {n: trial.result for n, trial in before.items()}
    spent = 0
    for trial in found.values():
        begun = found[trial.parent.number].settings["epochs"] if trial.parent else 0
        spent += trial.settings["epochs"] - begun
        assert trial.result["loss"] == loss_after(trial.settings["epochs"], trial.settings["x"])
        is_anew = trial.parent and trial.parent.number in before and trial.name.number not in before
        assert (trial.resumed is None) == (not trial.parent or bool(is_anew))
    assert 160 - 9 < spent <= 160


def test_higher_rungs_and_a_constraint_for_a_study_that_has_begun(bench):
    bench.search(study_of(bench, "asha", 60), "--workers", 2)
    before = trials(bench)
    file = study_of(bench, "asha", 400)
    file.write_text('constraints = ["x < 0.5"]\n' + file.read_text().replace("highest = 9", "highest = 27"))
    said = bench.search(file, "--workers", 2, "--change")
    assert "fidelity.highest: 9 becomes 27" in said and "constraint x < 0.5 added" in said
    found = trials(bench)
    bench.assert_complete(len(found))
    later = [trial for number, trial in found.items() if number not in before]
    assert any(trial.settings["x"] >= 0.5 for trial in before.values())
    assert all(trial.settings["x"] < 0.5 for trial in later), "nor does a schedule go on with what lies outside now"
    assert max(trial.settings["epochs"] for trial in later) == 27
    assert any(trial.parent and trial.parent.number in before for trial in later), "but with what lies inside"
    assert all(trial.result["loss"] == loss_after(trial.settings["epochs"], trial.settings["x"]) for trial in later)


@pytest.mark.parametrize(
    ("schedule", "strategy"),
    [
        ("screening", "tpe"),
        ("asha", "random"),
        ("asha", "tpe"),
        ("one-epoch", "halton"),
        ("halving", "cma-es"),
        ("hyperband", "random"),
    ],
)
def test_everybody_is_killed_and_every_promotion_is_made_once(bench, schedule, strategy):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, file = random.Random(seed), study_of(bench, schedule, 300)
    file.write_text(file.read_text().replace('"random"', f'"{strategy}"'))
    command = (file, "--max-attempts", 100)
    master, workers = bench.master(*command), [bench.worker("climbing", "--checkpoint-every", 0.001) for _ in range(3)]
    for _ in range(4):
        goal = len(bench.names("seen")) + chance.randrange(2, 20)
        wait_for(
            lambda goal=goal, master=master: len(bench.names("seen")) >= goal or master.poll() is not None, "results"
        )
        time.sleep(chance.random() / 20)
        for victim in (master, workers.pop(chance.randrange(3))):
            victim.kill()
            victim.wait()
        master = bench.master(*command)
        workers.append(bench.worker("climbing", "--checkpoint-every", 0.001))
    bench.finish(master)
    for worker in workers:
        bench.finish(worker)
    found = trials(bench)
    bench.assert_complete(len(found))
    parents = [trial.parent.number for trial in found.values() if trial.parent]
    assert parents and len(set(parents)) == len(parents)
    for trial in found.values():
        assert trial.result["loss"] == loss_after(trial.settings["epochs"], trial.settings["x"])
    begun = {number: found[number].settings["epochs"] for number in parents}
    cost = sum(t.settings["epochs"] - (begun[t.parent.number] if t.parent else 0) for t in found.values())
    assert 300 - 9 < cost <= 300


def test_a_checkpoint_that_is_missing_costs_time_only(bench):
    file = study_of(bench, "asha", 20)
    master = bench.master(file)
    worker = bench.worker("climbing", "--idle-timeout", 600)
    wait_for(lambda: len(bench.names("seen")) >= 2 and list(bench.folder.checkpoints.iterdir()), "checkpoints")
    while master.poll() is None:
        for path in bench.folder.checkpoints.iterdir():
            path.unlink(missing_ok=True)
    bench.finish(master)
    bench.finish(worker)
    found = trials(bench)
    assert any(trial.parent and trial.result["trained"] == trial.settings["epochs"] for trial in found.values())
    for trial in found.values():
        assert trial.result["loss"] == loss_after(trial.settings["epochs"], trial.settings["x"])


def test_the_checkpoints_of_the_least_promising_are_given_up(folder):
    folder.prepare()
    for number in range(4):
        (folder.checkpoints / f"trial-{number:05d}-1.checkpoint").write_bytes(bytes(10))
    housekeeping = Housekeeping(folder, 60.0, print)
    housekeeping.limit_checkpoints([2, 0, 1], 25)
    left = sorted(path.name for path in folder.checkpoints.iterdir())
    assert left == [f"trial-0000{number}-1.checkpoint" for number in (0, 2, 3)], "3 is nobody's business here: it runs"


def test_the_fidelity_may_be_a_number_of_seconds(bench):
    file = study_of(bench, "asha", 60)
    text = file.read_text().replace('setting = "epochs"', 'setting = "seconds"').replace("climbing", "measured")
    file.write_text(text.replace("lowest = 1", "lowest = 0.5").replace("highest = 9", "highest = 4.5"))
    said = bench.search(file, "--workers", 1)
    found = trials(bench)
    assert Counter(trial.settings["seconds"] for trial in found.values()).keys() == {0.5, 1.5, 4.5}
    for trial in found.values():
        begun = found[trial.parent.number].settings["seconds"] if trial.parent else 0
        assert trial.result["trained"] == trial.settings["seconds"] - begun
    spent = sum(trial.result["trained"] for trial in found.values())
    assert 60 - 4.5 < spent <= 60 and f"{spent:g} of 60 seconds are spent" in said


def test_a_quota_leaves_the_checkpoints_of_the_best(folder):
    """Room for two of six that may go on: the master gives up those of the worst places in their rungs."""
    record = {
        "name": "toy", "objective": "mine:train", "strategy": "random", "seed": 0, "metric": "loss",
        "budget": {"epochs": 90}, "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "fidelity": {"setting": "epochs", "lowest": 1, "highest": 9, "schedule": "hyperband", "disk_gb": 2e-8},
    }  # fmt: skip
    study = study_from_record(record, "test")
    folder.prepare()
    losses = [0.3, 0.1, 0.5, 0.2, 0.6, 0.4]
    for number, loss in enumerate(losses):
        count(folder, number, Proposal({"x": 0.5, "epochs": 1}, why={"rung": 0, "bracket": 0}), {"loss": loss})
        (folder.checkpoints / f"trial-{number:05d}-1.checkpoint").write_bytes(bytes(10))
    folder.write_study(study.to_record())
    master = Master(folder, study, lease=60.0, max_attempts=3, say=lambda line: None)
    master.take_stock()
    master.step()
    assert sorted(path.name[6:11] for path in folder.checkpoints.iterdir()) == ["00001", "00003"]


def test_a_lost_promotion_is_tried_again_with_its_parent(bench):
    study = study_of(bench, "asha", 30)
    master = bench.master(study)
    worker = bench.worker("climbing")
    first = wait_for(lambda: next((n for n in bench.names("seen") if bench.folder.read(n).parent), None), "a promotion")
    worker.kill()
    worker.wait()
    told = bench.folder.read(first).parent
    path = bench.logs / str(first.to("taken", f"elsewhere-1-{'a' * 8}"))
    bench.finish_early = shutil.copy(bench.folder.locate(first), bench.path / "copy")
    master.kill()
    master.wait()
    lines = (bench.path / "copy").read_text().splitlines(keepends=True)
    (bench.folder.seen / str(first)).unlink()
    bench.folder.results.unlink()
    path.write_text(lines[0])  # its worker died before it had said a word
    master = bench.master(study, "--lease", 1)
    wait_for(lambda: [name for name in bench.names("pending") if name.number == first.number], "the next attempt")
    worker = bench.worker("climbing")
    bench.finish(master)
    bench.finish(worker)
    again = trials(bench)[first.number]
    assert again.name.attempt == 2 and again.parent == told and again.why == json.loads(lines[0])["why"]


def test_networks_of_two_workers_go_on_to_the_bits_of_a_training_without_a_break(bench):
    """ASHA with three rungs of MNIST. Whoever claims a promotion takes the parent's checkpoint; no epoch is trained twice."""
    file = bench.path / "mnist.toml"
    file.write_text(
        'strategy = "random"\nmetric = "validation_error"\n[budget]\nepochs = 60\n'
        '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 4\nfactor = 2\nschedule = "asha"\n'
        "[fixed]\nfilters = 8\nbatch_size = 100\n"
        '[space]\nlearning_rate = { type = "float", low = 0.01, high = 0.3, log = true }\n'
    )
    bench.search(file, "--workers", 2)
    found = trials(bench)
    promoted = [trial for trial in found.values() if trial.parent]
    assert promoted and all(trial.resumed for trial in promoted)
    owners = {number: trial.claim["claimed"] for number, trial in found.items()}
    assert len(set(owners.values())) == 2
    assert any(owners[trial.parent.number] != owners[trial.name.number] for trial in promoted)
    trained = Counter()
    for number, trial in found.items():
        before = found[trial.parent.number].epochs if trial.parent else []
        assert trial.epochs[: len(before)] == before, "the curve of the parent, also its seconds"
        trained[number] = len(trial.epochs) - len(before)
    assert 60 - 4 < trained.total() <= 60
    whole = [trial for trial in promoted if trial.settings["epochs"] == 4]
    assert len(whole) > 2 and all(found[trial.parent.number].parent for trial in whole)
    said = bench.finish(bench.start("-c", STRAIGHT, *(json.dumps(trial.settings) for trial in whole)))
    for trial, line in zip(whole, said.splitlines()[-len(whole) :], strict=True):
        result, epochs = json.loads(line)
        for mine, theirs in ((trial.result, result), *zip(trial.epochs, epochs, strict=True)):
            assert [(key, mine[key]) for key in DETERMINED if key in theirs] == [
                (key, theirs[key]) for key in DETERMINED if key in theirs
            ]


DETERMINED = (
    "validation_error",
    "test_loss",
    "test_accuracy",
    "training_loss",
    "validation_loss",
    "epoch",
    "best_epoch",
)
STRAIGHT = """
import json, sys, torch
from tests.conftest import Curve
from foldertune.trainer.report import Report
from training.cnn import train
torch.set_num_threads(1)
for settings in sys.argv[1:]:
    curve = Curve()
    print(json.dumps([train(json.loads(settings), Report(curve)), curve.epochs]))
"""
