"""Schedules: which trials go on, in what order, and which checkpoints they may still need. No process is started."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from dataclasses import replace

import pytest

from foldertune.budget import Budget
from foldertune.errors import StudyError
from foldertune.fidelity import SCHEDULES, Fidelity
from foldertune.metrics import Metric
from foldertune.protocol import Parent, Proposal, Trial, TrialName
from foldertune.space import Categorical, Float, Int, identity
from foldertune.spending import cost, spent
from foldertune.strategies import STRATEGIES, Answer, History, new_strategy, plan
from foldertune.strategies.rungs import rungs
from foldertune.study import Study
from foldertune.study_file import study_from_record

EPOCHS = Fidelity("epochs", 1, 27)


def study_of(schedule, **changes):
    fidelity = replace(EPOCHS, schedule=schedule)
    return Study("toy", "random", 0, "loss", space={"x": Float(0.0, 1.0)}, fidelity=replace(fidelity, **changes))


def loss_of(settings):
    """The more epochs, the better; x decides what remains."""
    return settings["x"] + 1 / settings["epochs"]


class Search:
    """A search in memory: some workers, which end in any order."""

    def __init__(self, study, workers=1, seed=0, loss=loss_of):
        self.study, self.workers, self.loss = study, workers, loss
        self.strategy, self.chance = new_strategy(study), random.Random(seed)
        self.new_strategy = lambda: new_strategy(study)  # as a master that has just started
        self.counted: dict[int, Trial] = {}
        self.open: dict[int, Proposal] = {}
        self.log: list[tuple[int, Proposal]] = []

    @property
    def history(self):
        return History(self.counted, self.open)

    def step(self):
        """Start as many trials as there are workers, and end one. False if there is nothing left to do."""
        while len(self.open) < self.workers:
            number = len(self.log)
            answer = self.new_strategy().propose(number, self.history)
            if not isinstance(answer, Proposal):
                break
            self.open[number] = answer
            self.log.append((number, answer))
        if not self.open:
            return False
        number = self.chance.choice(sorted(self.open))
        proposal = self.open.pop(number)
        value = self.loss(proposal.settings)
        result = None if value is None else {"loss": None if math.isnan(value) else value}
        self.counted[number] = Trial(
            TrialName(number, 1, "seen"), proposal.settings, parent=proposal.parent, why=proposal.why, result=result,
            error=None if result else "failed",
        )  # fmt: skip
        return True

    def run(self, epochs):
        while spent(self.study, self.counted.values()) < epochs and self.step():
            pass
        return self

    def at(self, epochs):
        return [trial for trial in self.counted.values() if trial.settings["epochs"] == epochs]


@pytest.mark.parametrize(
    ("lowest", "highest", "factor", "levels"),
    [
        (1, 27, 3, [1, 3, 9, 27]),
        (2, 20, 3, [2, 7, 20]),
        (1, 100, 4, [2, 6, 25, 100]),
        (1, 2, 3, [2]),
        (0.5, 4.5, 3, [0.5, 1.5, 4.5]),
    ],
)
def test_the_rungs_end_at_the_highest_fidelity(lowest, highest, factor, levels):
    assert rungs(lowest, highest, factor) == levels


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("workers", [1, 5])
def test_a_promotion_goes_on_with_its_parent_and_costs_only_what_is_new(schedule, workers):
    search = Search(study_of(schedule), workers, seed=workers).run(600)
    trials = search.counted
    promoted = [trial for trial in trials.values() if trial.parent]
    assert len(promoted) > 5
    for trial in promoted:
        parent = trials[trial.parent.number]
        assert parent.settings | {"epochs": trial.settings["epochs"]} == trial.settings
        assert list(parent.settings) == list(trial.settings), "in the same order: a checkpoint is told by them"
        assert trial.parent.settings == {"epochs": parent.settings["epochs"]} and trial.parent.attempt == 1
        assert trial.parent.first == (parent.parent.first if parent.parent else parent.name.number)
        assert cost(search.study, trial.proposal) == trial.settings["epochs"] - parent.settings["epochs"] > 0
        factor = search.strategy.factors[parent.why["rung"]] if schedule in ("screening", "one-epoch") else 2
        assert trial.why["place"] <= max(1, trial.why["among"] / factor) and trial.why["rung"] > parent.why["rung"]
    assert max(Counter(trial.parent.number for trial in promoted).values()) == 1, "each goes on once"
    assert {trial.settings["epochs"] for trial in trials.values()} <= {1, 3, 9, 27}
    assert search.at(27), "some are trained in full"
    if workers == 1:
        best = min(trials.values(), key=lambda trial: trial.settings["x"])
        assert min(search.at(27), key=lambda trial: trial.settings["x"]).settings["x"] <= best.settings["x"] + 0.1


def counted(losses, epochs=1, start=0):
    """Trials with these losses, after so many epochs."""
    names = [TrialName(number, 1, "seen") for number in range(start, start + len(losses))]
    return {
        name.number: Trial(name, {"x": 0.5, "epochs": epochs}, result={"loss": loss})
        for name, loss in zip(names, losses, strict=True)
    }


EPOCHS_TO_LEARN = 250
EVERY_TYPE = {
    "rate": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
    "width": {"type": "int", "low": 8, "high": 64, "step": 8},
    "size": {"type": "categorical", "choices": [1, 2, 4], "ordered": True},
    "layers": [[16], [16, 16], None, "1", 1, True],
    "optimizer": ["sgd", "adam"],
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ("grid", "gp")])
def test_a_space_with_every_type_of_hyperparameter(schedule, strategy):
    """A search whose master is another one for each proposal, and one whose master lives on, are equal."""
    record = {
        "name": "toy", "strategy": strategy, "metric": "loss", "space": EVERY_TYPE, "budget": {"epochs": EPOCHS_TO_LEARN},
        "constraints": ["width * size <= 160"], "fidelity": {**EPOCHS.to_record(), "schedule": schedule},
    }  # fmt: skip
    study = plan(study_from_record(record, "toy.toml"), "toy.toml")

    def loss(settings):
        return settings["rate"] + settings.get("momentum", 0.3) + (settings["layers"] is None) + 1 / settings["epochs"]

    searches = [Search(study, workers=3, loss=loss).run(EPOCHS_TO_LEARN), Search(study, workers=3, loss=loss)]
    living = new_strategy(study)
    searches[1].new_strategy = lambda: living
    searches[1].run(EPOCHS_TO_LEARN)
    assert searches[0].log == searches[1].log
    by_number = dict(searches[0].log)
    promoted = [proposal for proposal in by_number.values() if proposal.parent]
    assert promoted and all(study.contains(proposal.settings) for proposal in by_number.values())
    for proposal in promoted:
        before = by_number[proposal.parent.number].settings
        assert {**before, "epochs": 0} == {**proposal.settings, "epochs": 0}
    begun = [identity({**each.settings, "epochs": 0, "seed": 0}) for each in by_number.values() if not each.parent]
    assert len(set(begun)) == len(begun)
    if strategy == "tpe" and schedule != "one-epoch":  # there it learns from ten trainings in full
        assert any("learnt" in each.why for each in by_number.values())


def test_asha_promotes_whenever_it_can():
    strategy, lowest = new_strategy(study_of("asha")), counted([0.5, 0.4, 0.3, 0.2, 0.1])
    assert strategy.propose(9, History(counted([0.5, 0.4]))).parent is None, (
        "one of three is promoted, and there are two"
    )
    first = strategy.propose(9, History(lowest))
    assert (first.parent.number, first.settings["epochs"], first.why) == (4, 3, {"rung": 1, "place": 1, "among": 5})
    assert strategy.propose(10, History(lowest, {9: first})).parent is None, "it has gone on already"
    six = {**lowest, **counted([0.6], start=5)}
    assert strategy.propose(10, History(six, {9: first})).parent.number == 3, "the second of six"
    higher = {**six, **counted([0.3, 0.2, 0.4], 3, start=10)}
    assert strategy.propose(13, History(higher)).settings["epochs"] == 9, "the highest promotion comes first"
    queued = {**counted([0.5, 0.4]), **counted([0.1], 2, start=7)}
    assert strategy.propose(9, History(queued)).parent is None, "a person's own number of epochs is no rung"


def begun(search):
    """The number of settings that were tried."""
    return sum(not trial.parent for trial in search.counted.values())


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_with_a_budget_of_epochs_the_lower_rungs_leave_enough_for_the_highest(workers):
    """As many trainings in full for any number of workers: without this rule, 64 would never come to one."""
    epochs = 20 * 27
    study = replace(study_of("asha"), budget=Budget(epochs=epochs))
    search = Search(study, workers, seed=workers).run(epochs)
    assert 5 <= len(search.at(27)) <= 10 and 130 <= begun(search) <= 180
    if workers == 64:
        assert begun(Search(study_of("asha"), workers, seed=workers).run(epochs)) > 200, "what the rule prevents"
    before = len(search.at(27))
    search.study = replace(study, budget=Budget(epochs=2 * epochs))
    search.new_strategy = lambda: new_strategy(search.study)
    assert len(search.run(2 * epochs).at(27)) > before, "an extended search goes on"


def test_what_is_left_of_a_budget_is_for_the_best():
    """When no result that may still come can be promoted, and the lowest rung has had its share. Nobody waits then."""
    study = replace(study_of("asha", highest=9), budget=Budget(epochs=6.9))
    strategy, lowest = new_strategy(study), counted([0.5, 0.4, 0.3])
    first = strategy.propose(3, History(lowest))
    assert first.parent.number == 2
    assert strategy.propose(4, History(lowest, {3: first})) is Answer.WAIT
    higher = {**lowest, **counted([0.2], 3, start=3)}
    higher[3].parent = first.parent
    rest = strategy.propose(4, History(higher))
    assert (rest.parent.number, rest.settings["epochs"]) == (3, 9), "the only one of its rung"
    second = strategy.propose(5, History(higher, {4: rest}))
    assert (second.parent.number, second.settings["epochs"]) == (1, 3), "the second of three"
    third = strategy.propose(6, History(higher, {4: rest, 5: second}))
    assert (
        third.parent.number == 0 and strategy.propose(7, History(higher, {4: rest, 5: second, 6: third})).parent is None
    )


def test_workers_are_busy_where_most_trials_fail():
    """The end of a budget takes no longer for that."""
    study = replace(study_of("asha"), budget=Budget(epochs=1000))
    chance = random.Random(1)
    search = Search(study, 16, loss=lambda settings: None if chance.random() < 0.8 else loss_of(settings))
    busy = []
    while spent(study, search.counted.values()) < 900 and search.step():
        busy.append(len(search.open) + 1)
    assert sum(number < 3 for number in busy) < len(busy) / 10


def test_what_was_trained_elsewhere_is_no_part_of_the_budget_that_rungs_share():
    """Such as a trial that a person has queued with another number of epochs."""
    study = replace(study_of("asha", highest=9), budget=Budget(epochs=6.9 + 20))
    queued = counted([0.1], 20, start=90)
    lowest = {**counted([0.5, 0.4, 0.3]), **queued}
    first = new_strategy(study).propose(3, History(lowest))
    assert new_strategy(study).propose(4, History(lowest, {3: first})) is Answer.WAIT, "three settings, as of 7 epochs"


def test_a_failed_or_diverged_trial_is_never_promoted_and_counts_as_the_worst():
    for nothing in (None, math.nan):
        search = Search(study_of("asha"), loss=lambda settings, nothing=nothing: nothing).run(30)
        assert len(search.counted) == 30 and not any(trial.parent for trial in search.counted.values())
        for schedule in SCHEDULES:
            search = Search(
                study_of(schedule), 3,
                loss=lambda settings, nothing=nothing: nothing if settings["x"] < 0.8 else loss_of(settings),
            )  # fmt: skip
            for _ in range(300):
                search.step()
            parents = [search.counted[trial.parent.number] for trial in search.counted.values() if trial.parent]
            assert parents and all(parent.result and parent.result["loss"] for parent in parents), schedule


@pytest.mark.parametrize("workers", [1, 4])
def test_hyperband_goes_through_its_brackets(workers):
    search = Search(study_of("hyperband"), workers).run(1500)
    first = [trial for trial in search.counted.values() if trial.why["bracket"] < 4]
    begun = Counter((trial.why["bracket"], trial.settings["epochs"]) for trial in first if not trial.parent)
    assert begun == {(0, 1): 27, (1, 3): 12, (2, 9): 6, (3, 27): 4}, "as many as Li et al. give for 27 and 3"
    sizes = Counter((trial.why["bracket"], trial.settings["epochs"]) for trial in first)
    assert sizes == begun | {(0, 3): 9, (0, 9): 3, (0, 27): 1, (1, 9): 4, (1, 27): 1, (2, 27): 2}


def test_halving_promotes_the_best_third_when_all_have_ended():
    search = Search(study_of("halving"), 3).run(81)
    bracket = [trial for trial in search.at(3) if trial.why["bracket"] == 0]
    whole = [trial for trial in search.at(1) if trial.why["bracket"] == 0]
    assert len(whole) == 27 and len(bracket) == 9
    best = sorted(whole, key=lambda trial: trial.settings["x"])[:9]
    assert {trial.name.number for trial in best} == {trial.parent.number for trial in bracket}


def test_one_epoch_for_all_and_then_the_best_in_full_share_the_epochs():
    search = Search(study_of("one-epoch")).run(540)
    assert {trial.settings["epochs"] for trial in search.counted.values()} == {1, 27}
    short, whole = len(search.at(1)), 26 * len(search.at(27))
    assert abs(short - whole) <= 54


@pytest.mark.parametrize(
    ("highest", "factor", "factors"),
    [
        (27, 3, [9, math.sqrt(3), math.sqrt(3)]),
        (64, 2, [4, *[2**0.8] * 5]),
        (20, 3, [9, 1]),
        (8, 3, [3]),
        (2, 3, []),
    ],
)
def test_screening_leaves_most_behind_at_the_lowest_rung(highest, factor, factors):
    strategy = new_strategy(study_of("screening", highest=highest, factor=factor))
    assert strategy.factors == pytest.approx(factors) and len(strategy.levels()) == len(factors) + 1
    assert math.prod(factors) == pytest.approx(factor ** len(factors)), "as many as in ASHA come to the highest"


def test_screening_promotes_one_of_nine_and_later_more():
    strategy, lowest = new_strategy(study_of("screening")), counted([0.5 + k / 10 for k in range(8)])
    assert strategy.propose(8, History(lowest)).parent is None, "one of nine is promoted, and there are eight"
    lowest |= counted([0.4], start=8)
    first = strategy.propose(9, History(lowest))
    assert (first.parent.number, first.settings["epochs"], first.why) == (8, 3, {"rung": 1, "place": 1, "among": 9})
    higher = {**lowest, **counted([0.2], 3, start=9)}
    higher[9].parent = first.parent
    assert strategy.propose(10, History(higher)).parent is None, "one alone is not the best of its rung"
    higher |= counted([0.1], 3, start=10)
    assert strategy.propose(11, History(higher)).settings["epochs"] == 9
    search = Search(study_of("screening")).run(1080)
    assert 0.08 < len(search.at(3)) / begun(search) < 0.16 and 0.02 < len(search.at(27)) / begun(search) < 0.06


@pytest.mark.parametrize("schedule", ["screening", "asha", "one-epoch"])
def test_what_a_model_chose_does_not_crowd_out_what_was_drawn_at_random(schedule):
    strategy, history = new_strategy(study_of(schedule)), counted([0.9 - k / 1000 for k in range(27)])
    chosen = counted([0.1 + k / 1000 for k in range(27)], start=27)
    for trial in chosen.values():
        trial.why = {"learnt": 9}
    history |= chosen
    climbing = {}
    for number in range(54, 54 + 2 * 27 // int(strategy.factors[0])):
        climbing[number] = strategy.propose(number, History(history, climbing))
    parents = [each.parent.number for each in climbing.values()]
    assert len(parents) == 2 * sum(number < 27 for number in parents) and 26 in parents and 27 in parents
    assert strategy.propose(99, History(history, climbing)).parent is None
    assert all(each.why.get("learnt") == (9 if each.parent.number >= 27 else None) for each in climbing.values())
    assert {each.why["among"] for each in climbing.values()} == {27}


def test_what_is_left_of_a_budget_is_for_the_best_whoever_chose_them():
    study = replace(study_of("asha", highest=3), budget=Budget(epochs=9))
    history = counted([0.9, 0.8, 0.7, 0.3, 0.2, 0.1])
    for number in (3, 4, 5):
        history[number].why = {"learnt": 3}
    climbing = {}
    for number in (6, 7, 8):
        climbing[number] = new_strategy(study).propose(number, History(history, climbing))
    assert [climbing[n].parent.number for n in (6, 7)] in ([2, 5], [5, 2]), "the best of each sort"
    assert climbing[8].why["rest"] and (climbing[8].parent.number, climbing[8].why["among"]) == (4, 6)


def test_the_sort_that_has_had_fewer_promotions_comes_first():
    history = counted([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.33, 0.32, 0.31, 0.3, 0.2, 0.1])
    for number in range(6, 12):
        history[number].why = {"learnt": 3}
    climbing = {}
    for number in range(12, 16):
        climbing[number] = new_strategy(study_of("asha")).propose(number, History(history, climbing))
    assert [each.parent.number for each in climbing.values()] == [5, 11, 4, 10]


@pytest.mark.parametrize("schedule", ["screening", "asha", "one-epoch"])
def test_a_small_space_that_is_exhausted_has_its_best_trained_in_full(schedule):
    study = replace(study_of(schedule), space={"x": Categorical((0.5, 0.2, 0.7))})
    for workers in (1, 2, 3):
        search = Search(study, workers)
        while search.step():
            pass
        assert [trial.settings["x"] for trial in search.at(27)] == [0.2]
        assert search.strategy.propose(len(search.log), search.history) is Answer.EXHAUSTED


def test_only_a_trial_that_a_schedule_has_given_up_is_left_behind():
    strategy = new_strategy(replace(study_of("asha"), strategy="tpe"))
    low, high = counted([0.5] * 40), counted([0.1] * 10, 3, start=40)
    for number, trial in high.items():
        trial.parent = Parent(number - 40, 1, {"epochs": 1}, number - 40)
    low[20].dropped = "nonsense"
    history = strategy._comparable(History({**low, **high}))[1]
    behind = [trial.name.number for trial in history.behind]
    assert len(behind) == 20 and min(behind) >= 10 and 20 not in behind and behind == sorted(behind)
    for trial in (*low.values(), *high.values()):
        trial.why = {"bracket": trial.name.number % 2}
    for number in (1, 3, 5, 7, 9):
        del high[40 + number]  # nobody of the second bracket has gone on yet
    high |= counted([0.1] * 5, 3, start=60)
    brackets = new_strategy(replace(study_of("hyperband"), strategy="tpe"))
    history = brackets._comparable(History({**low, **high}))[1]
    assert len(history.behind) > 10 and all(trial.why["bracket"] == 0 for trial in history.behind)


def test_a_strategy_that_is_no_model_sees_the_lowest_rung_until_another_has_ten_results():
    study = study_of("asha")
    rung, history = new_strategy(study)._comparable(History({**counted([1.0] * 9), **counted([1.0] * 9, 3, start=9)}))
    assert rung == 0 and sorted(history.counted) == list(range(9))
    crossing = new_strategy(replace(study, strategy="nsga-ii"))
    assert crossing._comparable(History(counted([1.0] * 19, 3)))[0] is None, "it draws the first twenty at random"
    assert crossing._comparable(History(counted([1.0] * 20, 3)))[0] == 1


def test_the_checkpoints_that_are_given_up_last_are_those_nearest_to_a_promotion():
    strategy = new_strategy(study_of("screening"))
    low, higher = counted([k / 10 for k in range(9)]), counted([1.0, 2.0, 3.0], 3, start=9)
    needed = list(strategy.needs(History({**low, **higher})))
    assert needed[:2] == [0, 9] and needed.index(10) < needed.index(1), "of three one or two go on, of nine one"
    for number in (6, 7, 8):
        low[number].why = {"learnt": 3}
    assert {*list(strategy.needs(History(low)))[:2]} == {0, 6}, "the best of each sort"


def test_only_checkpoints_of_what_may_go_on_are_needed():
    search = Search(study_of("asha")).run(200)
    needed = search.strategy.needs(search.history)
    gone_on = {trial.parent.number for trial in search.counted.values() if trial.parent}
    for number, trial in search.counted.items():
        assert (number in needed) == (trial.settings["epochs"] < 27 and number not in gone_on)
    for epochs in (1, 3, 9):
        losses = [search.counted[n].result["loss"] for n in needed if search.counted[n].settings["epochs"] == epochs]
        assert losses == sorted(losses), "the best of each rung first: a quota gives up the last"


def test_a_strategy_learns_from_the_highest_rung_with_ten_results_and_never_from_the_lowest():
    strategy = new_strategy(replace(study_of("asha"), strategy="tpe"))

    def learnt(*results):
        """The rung from which it learns, and the numbers of the trials that it is shown."""
        numbers = itertools.count()
        counted = {}
        for rung, many in enumerate(results):
            for number in itertools.islice(numbers, many):
                settings = {"x": 0.5, "epochs": 3**rung}
                counted[number] = Trial(TrialName(number, 1, "seen"), settings, result={"loss": 1.0})
        rung, history = strategy._comparable(History(counted))
        return rung, sorted(history.counted)

    assert learnt(99, 9) == (None, []) and learnt(9, 10) == (1, list(range(9, 19)))
    assert learnt(1, 11, 9) == (1, list(range(1, 12))) and learnt(2, 11, 10) == (2, list(range(13, 23)))
    strategy = new_strategy(replace(study_of("asha", highest=2), strategy="tpe"))
    assert strategy.rungs == [2]
    whole = History(counted([1.0] * 10, 2))
    assert strategy._comparable(whole) == (0, History(whole.counted, others=whole, behind=[]))


@pytest.mark.parametrize(("dimension", "most"), [(Float(0.0, 1.0), 1.0), (Int(0, 999), 999)])
def test_with_a_schedule_half_of_the_settings_are_drawn_at_random_and_a_model_chooses_the_others(dimension, most):
    study = replace(study_of("screening"), strategy="tpe", space={"x": dimension})
    search = Search(study, loss=lambda settings: settings["x"] / most + 1 / settings["epochs"]).run(800)
    begun = [trial for trial in search.counted.values() if not trial.parent and "learnt" in trial.why]
    first = min(trial.name.number for trial in begun)
    drawn = [trial for trial in search.counted.values() if trial.why.get("random") and trial.name.number > first]
    assert 0.35 < len(drawn) / len(drawn + begun) < 0.65 and all("learnt" not in trial.why for trial in drawn)
    values = [[trial.settings["x"] / most for trial in trials] for trials in (drawn, begun)]
    assert 0.3 < statistics.median(values[0]) < 0.7 and statistics.median(values[1]) < 0.25
    assert [trial.settings for _, trial in Search(study, loss=search.loss).run(800).log] == [
        trial.settings for _, trial in search.log
    ], "whether a trial is one of them depends on its number and the study's seed"
    in_full = new_strategy(replace(study, fidelity=None, trials=9))
    ended = {trial.name.number: replace(trial, settings={"x": trial.settings["x"], "seed": 0}) for trial in begun[:10]}
    assert not any("random" in in_full.propose(number, History(ended)).why for number in range(1000, 1030))


def test_of_several_metrics_the_first_decides_what_goes_on():
    study = replace(study_of("asha"), others=(Metric("cost"),), direction="maximize")
    results = {number: {"loss": float(number), "cost": float(number)} for number in range(9)}
    counted = {
        number: Trial(TrialName(number, 1, "seen"), {"x": 0.5, "epochs": 1}, result=result)
        for number, result in results.items()
    }
    answer = new_strategy(study).propose(9, History(counted))
    assert answer.parent.number == 8 and answer.why["place"] == 1


def test_a_strategy_that_is_exhausted_still_has_its_best_promoted(monkeypatch):
    from foldertune.strategies.plain import RandomSearch

    propose = RandomSearch.propose
    monkeypatch.setattr(
        RandomSearch,
        "propose",
        lambda self, number, history: Answer.EXHAUSTED if number >= 9 else propose(self, number, history),
    )
    for schedule in SCHEDULES:
        search = Search(study_of(schedule, highest=9), 2)
        while search.step():
            pass
        assert search.at(9), schedule
        assert search.strategy.propose(len(search.log), search.history) is Answer.EXHAUSTED, schedule


def test_while_the_first_trial_runs_an_exhausted_strategy_waits_for_its_result(monkeypatch):
    from foldertune.strategies.plain import RandomSearch

    strategy = new_strategy(study_of("asha"))
    first = strategy.propose(0, History())
    monkeypatch.setattr(RandomSearch, "propose", lambda self, number, history: Answer.EXHAUSTED)
    assert strategy.propose(1, History({}, {0: first})) is Answer.WAIT
    assert strategy.propose(1, History({})) is Answer.EXHAUSTED


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"factor": 3}, "fidelity.factor: needs 'highest'"),
        ({"highest": 2}, "fidelity.highest: must be above lowest, which is 2, not 2"),
        ({"highest": "9"}, "fidelity.highest: must be a number above 0, not '9'"),
        ({"highest": 9, "factor": 1}, "fidelity.factor: must be a whole number of at least 2"),
        ({"highest": 9, "schedule": "hyper"}, "fidelity.schedule: must be"),
        ({"highest": 9, "setting": "x"}, "remove 'x' from [space] or [fixed]"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_one_line(table, said):
    record = {
        "strategy": "random", "trials": 9, "metric": "loss", "space": {"x": [1, 2]},
        "fidelity": {"setting": "epochs", **table},
    }  # fmt: skip
    with pytest.raises(StudyError, match=r"^mine\.toml: ") as error:
        study_from_record(record, "mine.toml")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_study_with_a_schedule_is_read_again_as_it_was():
    study = study_of("hyperband", factor=4)
    assert study_from_record({**study.to_record(), "trials": 9}, "it").fidelity == study.fidelity
