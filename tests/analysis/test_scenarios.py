"""The scenarios' sentences follow the data: other data, other answers."""

from __future__ import annotations

import itertools
import re
import shutil

import pytest

from foldertune.protocol import Folder, TrialName
from foldertune.strategies import load
from tests.conftest import settings_of
from tests.pages import (
    add_odd_trials,
    answers,
    assert_figures_are_sound,
    make,
    said_of,
    write_grid,
    write_search,
    write_trial,
)


def test_scenario_1_other_data_other_answers(bench):
    small = {0.001: 2.27, 0.01: 0.9, 0.1: 0.2, 0.2: 0.12, 0.3: 0.09, 0.5: 0.07, 1.0: 0.3, 2.0: 2.3}
    first = write_grid(bench.path / "a", "scenario1", lambda s, k: small[s["learning_rate"]] * (1 + k / 1000),
                       collapsed=lambda s: s["learning_rate"] == 2)  # fmt: skip
    second = write_grid(bench.path / "b", "scenario1", lambda s, k: (1 + k / 100) * s["learning_rate"] ** 0.5 / 2)
    one, other = answers(make(bench, first)[0]), said_of(second)
    assert any(a.startswith("Best learning rate: 0.5, with a final training loss of 0.0701") for a in one)
    assert any(a.startswith("Best learning rate: 0.001, with a final training loss of 0.016") for a in other)
    assert "Learning rates that collapse to a constant loss: 2 (3 of 3 runs)." in one
    assert "No setting collapses to a constant loss." in other
    assert any("collapse to a constant training loss of 2.303" in a for a in one)
    assert any("goes from 2.3 to 2.27" in a and "falling by 0.2 %" in a for a in one)
    assert_figures_are_sound(bench.path / "page", least=3)


def test_scenario_2_says_the_best_rate_for_each_batch_size(bench):
    best = {20: 0.1, 100: 0.2, 500: 0.5}

    def loss(settings, repeat):
        return 0.03 + abs(settings["learning_rate"] - best[settings["batch_size"]]) + repeat / 1000

    def seconds(settings):
        return 20 + 0.002 * (5000 // settings["batch_size"]) * 10

    page, out = make(bench, write_grid(bench.path / "a", "scenario2", loss, seconds))
    said = answers(page)
    for size, rate in best.items():
        assert any(a.startswith(f"Best learning rate for batch size {size}: {rate} (training loss 0.031 ± 0.001 (3 runs);")
                   and "more than chance" in a for a in said)  # fmt: skip
    assert any(
        "0.1 at 20, 0.2 at 100 and 0.5 at 500: the larger the batch, the larger the best rate" in a for a in said
    )
    assert any("2.00 ms for each step and 20 s that the number of steps does not change" in a for a in said)
    best.update({20: 0.5, 500: 0.1})
    said = said_of(write_grid(bench.path / "b", "scenario2", loss, seconds, repeats=1))
    assert any(a.startswith("Best learning rate for batch size 20: 0.5 (training loss 0.03 (1 run);") for a in said)
    assert any("the larger the batch, the smaller the best rate" in a for a in said)
    assert any("too few runs to tell" in a for a in said)
    assert_figures_are_sound(out, least=3)


def test_scenario_2_noise_is_called_noise(bench):
    noise = itertools.cycle([0.1, 0.3, 0.2, 0.25, 0.12])
    said = said_of(write_grid(bench.path / "a", "scenario2", lambda s, k: next(noise)))
    assert sum("within noise" in a for a in said) == 3


def test_scenario_3_order_momentum_and_effective_rate(bench):
    def effective(settings):
        return settings["learning_rate"] / (1 - settings["momentum"])

    def loss(settings, repeat):
        return 0.01 / effective(settings) * (1 + repeat / 1000)

    logs = write_grid(bench.path / "a", "scenario3", loss, collapsed=lambda s: effective(s) > 0.5)
    page, out = make(bench, logs)
    said = answers(page)
    assert any(a.startswith("Best combination: rate 0.1, momentum 0.5 (effective 0.2)") for a in said)
    assert any("9. rate 0.1, momentum 0.9 (effective 1): collapsed in 3 of 3 runs" in a for a in said)
    assert any("At learning rate 0.01 " in a and "at 0.9: momentum helps, more than chance" in a for a in said)
    assert any("At learning rate 0.1 " in a and "collapses at momentum 0.9 (3 of 3 runs)" in a for a in said)
    assert any("rank correlation of -" in a for a in said)
    assert any(a.startswith("Equal effective rate: rate 0.01, momentum 0 ") and "within noise" in a for a in said)
    harmful = write_grid(bench.path / "b", "scenario3", lambda s, k: 0.1 + s["momentum"] + k / 1000)
    said = said_of(harmful)
    assert sum("momentum does not help, more than chance" in a for a in said) == 3
    assert_figures_are_sound(out, least=2)


def test_scenario_4_the_filters_for_a_budget(bench):
    logs = write_grid(bench.path / "a", "scenario4", lambda s, k: 1 / s["filters"], lambda s: 2.0 * s["filters"], 1)
    page, out = make(bench, logs)
    said = answers(page)
    assert any(a.startswith("Filters for 10 epochs: 256, with a validation error of") for a in said)
    ten = next(a for a in said if a.startswith("Filters for 10 seconds: "))
    assert "64, 128 and 256 did not end one epoch" in ten
    assert any(
        re.match(r"Filters for 114 s per network, an equal share of the 17\.0 min that all 9 took: \d+,", a)
        for a in said
    )
    assert any("that with 1 2 s: 256 times as long" in a for a in said)
    assert_figures_are_sound(out, least=4)


def test_scenario_5_effective_rate_simulated_searches_and_collapse(bench):
    page, out = make(bench, write_search(bench.path / "logs", 3))
    said = answers(page)
    assert any(re.match(r"Collapsed: 1 of 24 .*LR/\(1−M\) of these: 6\.6; of the others: ", a) for a in said)
    assert not any("by the study's rule" in a for a in said)  # it is told once
    effective = next(a for a in said if a.startswith("The effective rate LR/(1−M) alone predicts"))
    alone, rate, *_ = (int(n) for n in re.findall(r"(\d+) %", effective.replace("nothing", "0 %")))
    assert alone > rate
    assert any("simulated searches reaches" in a for a in said)
    assert (out / "simulated-searches.png").exists()
    assert_figures_are_sound(out, least=8)


def test_scenario_6_one_search_by_one_and_by_several(bench):
    write_search(bench.path / "kept" / "one", 1, name="scenario6")
    write_search(bench.path / "kept" / "three", 3, slow=1.25)
    page, out = make(bench, bench.path / "kept")
    said = answers(page)
    for name, workers in (("one", "1 worker"), ("three", "3 workers")):
        once = (
            f"{name}: 24 settings files, 24 different settings, 24 results by {workers}: each evaluated exactly once."
        )
        assert once in said
    gain = next(a for a in said if a.startswith("3 workers trained the same 24 trials in "))
    assert 1.9 < float(re.search(r": ([\d.]+) times the throughput", gain)[1]) < 2.41
    assert (out / "one-timeline.svg").exists() and (out / "three-timeline.svg").exists()
    summary = page.split('<ul class="summary">')[1].split("</ul>")[0]
    assert summary.count("Best validation error: ") == 2 and "one: 24" not in summary
    assert_figures_are_sound(out, least=9)


def test_scenario_6_unlike_searches_are_not_compared(bench):
    write_search(bench.path / "kept" / "one", 1, trials=8, name="scenario6")
    write_search(bench.path / "kept" / "three", 3, slow=1.25)
    said = said_of(bench.path / "kept")
    assert any(
        a.startswith("One worker against several: not enough data; one trained 8 trials by 1 worker") for a in said
    )
    assert not any("times the throughput" in a for a in said)


def test_a_settings_file_evaluated_twice_is_told(bench):
    logs = write_search(bench.path / "logs", 2, trials=8, name="scenario6")
    folder = Folder(logs)
    name = TrialName(3, 1, "seen")
    lost = open(folder.locate(name)).read()
    with open(folder.locate(TrialName(3, 1, "lost")), "w") as file:
        file.write(lost.replace('"result"', '"nothing"'))
    shutil.move(folder.locate(name), folder.locate(TrialName(3, 2, "seen")))
    said = said_of(logs)
    assert any(
        "8 settings files" in a and "1 attempt was lost and tried again; each is counted once" in a for a in said
    )
    assert not any("exactly once" in a for a in said)


@pytest.mark.parametrize("scenario", [f"scenario{k}" for k in range(1, 7)])
def test_a_scenario_that_has_just_begun(bench, scenario):
    folder, study = Folder(bench.path / "logs"), load(scenario)
    folder.prepare()
    folder.write_study(study.to_record())
    assert any("not enough data" in a for a in said_of(folder.path))
    write_trial(folder, TrialName(0, 1, "seen"), settings_of(study, 0), [2.0, 1.0], {"validation_error": 0.1})
    assert any("not enough data" in a for a in said_of(folder.path))
    write_trial(
        folder,
        TrialName(1, 1, "seen"),
        settings_of(study, 1),
        [None, None],
        {"validation_error": None, "diverged": True},
    )
    write_trial(folder, TrialName(2, 1, "taken", "a-1-b"), settings_of(study, 2), [2.0], None)
    folder.record_failure(TrialName(3, 3), settings_of(study, 3), ["out of memory"] * 3)
    page, _ = make(bench, folder.path)
    assert "out of memory" in page


@pytest.mark.parametrize("scenario", [f"scenario{k}" for k in range(1, 5)])
def test_what_was_queued_by_hand_changes_no_answer_of_a_scenario(bench, scenario):
    logs = write_grid(
        bench.path / "logs", scenario, lambda s, k: 0.1 + k / 100 + s.get("learning_rate", 0.3), repeats=2
    )
    before = said_of(logs)
    add_odd_trials(Folder(logs), load(scenario))
    after = said_of(logs)
    assert [answer for answer in after if "collapsed (" not in answer and "without a value" not in answer] == before


@pytest.mark.parametrize("name", ["scenario5", "scenario6", "mine"])
def test_odd_trials_of_a_search(bench, name):
    logs = write_search(bench.path / "logs", 2, name=name)
    add_odd_trials(Folder(logs), load("scenario5"))
    assert_figures_are_sound(make(bench, logs)[1])


@pytest.mark.parametrize("scenario", [f"scenario{k}" for k in range(1, 5)])
def test_nothing_takes_no_time_and_loses_nothing(bench, scenario):
    logs = write_grid(bench.path / "logs", scenario, lambda s, k: 1e-300, seconds=lambda s: 0.0)
    said_of(logs)


def test_a_second_result_of_a_trial_is_told(bench):
    logs = write_search(bench.path / "logs", 2, trials=8, name="scenario6")
    folder = Folder(logs)
    shutil.copy(folder.locate(TrialName(3, 1, "seen")), folder.locate(TrialName(3, 2, "seen")))
    said = said_of(logs)
    assert any(a.endswith("trial 3 was evaluated more than once; each is counted once.") for a in said)
    assert not any("exactly once" in a for a in said)
    assert "Of trial 3 there is another file, which is not counted." in said
