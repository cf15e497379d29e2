"""The master's strategy waits for results, or has nothing left. Files are real; a worker's claims hand in results."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from foldertune import strategies
from foldertune.budget import Budget
from foldertune.fidelity import Fidelity
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.running import supply
from foldertune.running.master import Master
from foldertune.running.mastership import open_folder
from foldertune.space import Float, Int
from foldertune.strategies import Answer, History, ask
from foldertune.study import Study


class Bisection:
    """Tries the middle, then halves towards the better end: the choice of each trial depends on the one before."""

    is_reproducible = False
    is_adaptive = True
    asked: list[int] = []  # noqa: RUF012

    def __init__(self, study):
        self.study = study

    def propose(self, number, history):
        Bisection.asked.append(number)
        if any(trial.result["loss"] < 0.1 for trial in history.counted.values() if trial.result):
            return Answer.EXHAUSTED
        if any(number not in history.counted for number in range(number)):
            return Answer.WAIT
        if number == 0:
            return Proposal({"x": 0.5})
        last = history.counted[number - 1]
        return Proposal({"x": last.settings["x"] / 2})

    def needs(self, history):
        return {max(history.counted, default=-1)}


class Adaptive(strategies.RandomSearch):
    is_adaptive = True


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setitem(strategies.STRATEGIES, "bisection", Bisection)
    monkeypatch.setitem(strategies.STRATEGIES, "adaptive", Adaptive)
    monkeypatch.setattr(Bisection, "asked", [])
    return Study("toy", "bisection", 10, "loss", objective="mine:train", space={"x": Float(0.0, 1.0)})


def begin(bench, study):
    """A master that has just started; it may be the successor of another."""
    master = Master(open_folder(bench.folder, study), study, lease=60, max_attempts=2, say=lambda line: None)
    master.take_stock()
    if not master.is_done():
        master.folder.write_study(study.to_record())
    settle(master)
    return master


def claim_as(bench, owner):
    return bench.folder.claim(owner, bench.folder.candidates(owner))


def settle(master):
    while master.step():
        pass


def pending(bench):
    return [(name.number, bench.folder.read(name).settings["x"]) for name in bench.names("pending")]


def train(bench):
    """Let a worker take one trial and hand in x as its loss. True if there was a trial."""
    claim = bench.folder.claim("me-1-abcd", bench.folder.candidates("me-1-abcd"))
    if claim:
        claim.append({"claimed": "me-1-abcd"})
        claim.finish({"result": {"loss": claim.read().settings["x"]}})
    return claim is not None


def test_it_waits_for_results_and_ends_when_nothing_is_left(bench, study):
    master = begin(bench, study)
    for x in (0.5, 0.25, 0.125):
        settle(master)
        assert [value for _, value in pending(bench)] == [x], "it waits for this one"
        assert train(bench)
        settle(master)
    assert pending(bench) == [(3, 0.0625)] and not master.is_done()
    assert train(bench)
    settle(master)
    assert master.is_done() and master.asked == 4, "four of at most ten trials"
    master.conclude()
    bench.assert_complete(4)


def test_a_master_that_is_killed_and_started_again_goes_on_from_the_same_history(bench, study):
    begin(bench, study)
    assert pending(bench) == [(0, 0.5)]
    master = begin(bench, study)  # the trial is open: no other is chosen
    assert pending(bench) == [(0, 0.5)] and master.ledger.open == {0: Proposal({"x": 0.5})}, (
        "settings are facts: read, not chosen"
    )
    train(bench)
    begin(bench, study)
    assert pending(bench) == [(1, 0.25)]
    while train(bench):
        master = begin(bench, study)
    assert master.is_done()
    master.conclude()
    again = Master(open_folder(bench.folder, study), study, lease=60, max_attempts=2)
    again.take_stock()
    assert again.is_done(), "it knows at once that nothing is left, and starts no worker"


def test_settings_chosen_from_results_are_synced_and_never_chosen_again(bench, study, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    master = begin(bench, study)
    assert any("trial-00000-1.jsonl" in path for path in synced)
    train(bench)
    settle(master)
    with open(bench.folder.locate(TrialName(1, 1)), "w") as file:
        file.write("torn")
    os.rename(bench.folder.locate(TrialName(1, 1)), bench.folder.locate(TrialName(1, 1, "done")))
    Bisection.asked.clear()
    monkeypatch.setattr(master.watch, "_doubt", 0.0)  # it need not be opened again to be believed broken
    settle(master)
    assert pending(bench) == [(1, 0.25)] and bench.names("pending")[0].attempt == 2
    assert 1 not in Bisection.asked


def test_settings_that_are_lost_with_their_file_are_chosen_when_there_is_an_answer(bench, study):
    begin(bench, study)
    os.rename(bench.folder.locate(TrialName(0, 1)), bench.folder.locate(TrialName(0, 1, "lost")))
    with open(bench.folder.locate(TrialName(0, 1, "lost")), "w") as file:
        file.write("torn")
    begin(bench, study)
    assert pending(bench) == [(0, 0.5)]


def test_reproducible_settings_are_not_synced(bench, study, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    begin(bench, replace(study, strategy="random"))
    assert len(pending(bench)) == 8 and not any("trial-" in path for path in synced)


def test_an_adaptive_strategy_is_asked_as_late_as_possible(bench, study):
    """One trial is ready while nothing happens; as workers claim, more are, so that a crowd does not wait for long."""
    master = begin(bench, replace(study, strategy="adaptive"))
    assert [number for number, _ in pending(bench)] == [0]
    crowd = []
    for _ in range(4):
        while claim := claim_as(bench, f"far-{len(crowd) + 10}-abcd"):
            crowd.append(claim)
        settle(master)
    assert len(crowd) >= 6 and len(pending(bench)) <= 8
    for claim in crowd:
        claim.finish({"result": {"loss": 0.5}})
    settle(master)
    while train(bench):
        settle(master)
    assert master.is_done() and len(bench.names("seen")) == 10


def claim_number(bench, number):
    """A worker claims this trial. It is the same one each time, and may not have handed in the last."""
    return bench.folder.claim("far-1-abcd", iter([TrialName(number, 1)]))


def hand_in(claim):
    claim.append({"claimed": claim.name.owner})
    claim.finish({"result": {"loss": 0.5}})


def test_a_lone_worker_finds_one_trial_whatever_the_master_has_missed(bench, study):
    """It ended two trials while there was no master; or it trains the next one, and has not handed in the last."""
    study = replace(study, strategy="adaptive")
    begin(bench, study)
    claims = [claim_number(bench, 0)]
    begin(bench, study)
    claims.append(claim_number(bench, 1))
    for claim in claims:
        hand_in(claim)
    master = begin(bench, study)
    assert [number for number, _ in pending(bench)] == [2]
    claims = [claim_number(bench, 2)]
    settle(master)
    claims.append(claim_number(bench, 3))
    settle(master)
    assert pending(bench) == [], "it hands in trial 2 in a moment: the next proposal shall know the result"
    hand_in(claims[0])
    settle(master)
    assert [number for number, _ in pending(bench)] == [4]


def test_what_a_lone_worker_never_hands_in_is_not_waited_for_for_ever(bench, study, monkeypatch):
    """It was killed, elsewhere, between its next claim and the hand-in: others must find work before its lease is over."""
    master = begin(bench, replace(study, strategy="adaptive"))
    claim_number(bench, 0)
    settle(master)
    claim_number(bench, 1)
    for _ in range(9):
        master.step()
    assert pending(bench) == []
    monkeypatch.setattr(supply, "PATIENCE", 0.0)
    master.step()
    assert [number for number, _ in pending(bench)] == [2]


def test_short_trainings_of_several_workers_are_not_taken_for_those_of_one(bench, study):
    """Each begins and ends between two looks."""
    master = begin(bench, replace(study, strategy="adaptive"))
    for number in range(3):
        hand_in(claim_as(bench, f"far-{number}-abcd"))
        settle(master)
    assert len(pending(bench)) >= 2


def test_a_worker_that_was_started_again_is_one_worker(bench, study):
    """As `master.py --workers 1` after Ctrl-C: who handed in before this master began is not asked."""
    study = replace(study, strategy="adaptive")
    begin(bench, study)
    hand_in(claim_as(bench, "far-1-abcd"))
    begin(bench, study)
    master = begin(bench, study)
    hand_in(claim_as(bench, "far-2-abcd"))
    settle(master)
    assert [number for number, _ in pending(bench)] == [2]


def test_at_the_end_of_a_budget_trials_are_published_one_by_one(bench, monkeypatch):
    """The next trial costs too much while the last one runs; when that is counted, others fit."""

    class Greedy(Adaptive):
        """Wants nine epochs as long as a trial is open, and one otherwise."""

        def propose(self, number, history):
            proposal = super().propose(number, history)
            return replace(proposal, settings={**proposal.settings, "epochs": 9 if history.open else 1})

    monkeypatch.setitem(strategies.STRATEGIES, "greedy", Greedy)
    study = Study(
        "toy", "greedy", 0, "loss", objective="mine:train", space={"x": Float(0.0, 1.0), "epochs": Int(1, 9)},
        budget=Budget(epochs=8), fidelity=Fidelity("epochs"),
    )  # fmt: skip
    master = begin(bench, study)
    for number in range(8):
        assert [number for number, _ in pending(bench)] == [number]
        claim = claim_number(bench, number)
        settle(master)
        assert pending(bench) == []
        hand_in(claim)
        settle(master)
    assert master.is_done()


def test_the_trial_before_counts_as_running_unless_nothing_can_be_proposed_then():
    class Counts:
        """Proposes how many results it knows; below `least` of them it waits."""

        is_adaptive, least = True, 0

        def propose(self, number, history):
            known = len(history.counted)
            assert history.open.keys() == {1} - history.counted.keys()
            return Proposal({"x": known}) if known >= self.least else Answer.WAIT

    counted = {k: Trial(TrialName(k, 1, "seen"), {"x": 0.5}, result={"loss": 1.0}) for k in range(2)}
    strategy, history = Counts(), History(counted)
    assert ask(strategy, 2, history).settings == {"x": 1}
    assert ask(strategy, 2, history, lambda proposal: proposal.settings["x"] > 1).settings == {"x": 2}, "too dear"
    strategy.least = 2
    assert ask(strategy, 2, history).settings == {"x": 2}
    strategy.is_adaptive = False
    assert ask(strategy, 2, history).settings == {"x": 2}


def test_checkpoints_that_a_strategy_needs_are_kept(bench, study):
    master = begin(bench, study)
    for _ in range(2):
        train(bench)
        settle(master)
    for number in (0, 1):
        (bench.folder.checkpoints / f"trial-{number:05d}-1.checkpoint").write_bytes(b"")
    master._next_check = 0.0
    master.step()
    assert [path.name for path in bench.folder.checkpoints.iterdir()] == ["trial-00001-1.checkpoint"]
    master.conclude()
    assert not list(bench.folder.checkpoints.iterdir())


def test_a_trial_queued_by_hand_counts_although_the_strategy_has_nothing_left(bench, study):
    master = begin(bench, study)
    while train(bench):
        settle(master)
    (bench.logs / "trial-00500-1.jsonl").write_text('{"settings": {"x": 0.75}}\n')
    settle(master)
    assert not master.is_done() and master.asked == 5
    train(bench)
    settle(master)
    assert master.is_done() and sorted(master.ledger.counted) == [0, 1, 2, 3, 500]
