"""The kept results of the exercise are whole, and their README quotes them correctly."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from analysis.scenarios import find
from foldertune.reading.page import read_all
from foldertune.reading.reader import read_results
from foldertune.rows import Row, results_csv
from foldertune.strategies import load
from tests.conftest import ROOT, settings_of

KEPT = ROOT / "analysis" / "exercise3"
README = (KEPT / "README.md").read_text()


@pytest.fixture(scope="module")
def searches():
    return {entry.name: entry.results for entry in read_all([KEPT])}


def test_what_was_found_is_what_the_data_say(searches):
    said = {answer for search in searches.values() for answer in find(search, searches).answers}
    quoted = [line.removeprefix("> ") for line in README.splitlines() if line.startswith("> ")]
    assert len(quoted) > 25
    assert [quote for quote in quoted if quote not in said] == []


def test_every_figure_that_is_shown_is_drawn_and_none_is_left_over(searches):
    drawn = {f"{name}-{picture.name}.png" for name, s in searches.items() for picture in find(s, searches).pictures}
    assert set(re.findall(r"\(figures/([^)]+)\)", README)) <= drawn
    assert {path.name for path in (KEPT / "figures").glob("*.png")} == drawn


def test_no_picture_is_there_twice():
    pictures = list((KEPT / "figures").glob("*.png"))
    assert len({picture.read_bytes() for picture in pictures}) == len(pictures) > 15


@pytest.mark.parametrize(("name", "combinations", "runs"), [
    ("scenario1", 8, 3), ("scenario2", 9, 3), ("scenario3", 9, 3), ("scenario4", 9, 1),
])  # fmt: skip
def test_the_grids_are_whole(searches, name, combinations, runs):
    trials, asked = searches[name].trials, load(name, repeats=runs)
    found = Counter(tuple(trial.settings[key] for key in asked.space) for trial in trials)
    assert len(found) == combinations and min(found.values()) >= runs
    for trial in trials:
        wanted = {**settings_of(asked, trial.name.number), **asked.fixed}
        assert {key: trial.settings[key] for key in asked.space | asked.fixed} == {
            key: wanted[key] for key in asked.space | asked.fixed
        }
        assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, 51))


@pytest.mark.parametrize(("name", "least"), [("scenario5", 40), ("scenario6", 4)])
def test_the_random_search_is_that_of_scenario_5(searches, name, least):
    trials, asked = searches[name].trials, load("scenario5")
    assert [trial.name.number for trial in trials] == list(range(len(trials))) and len(trials) >= least
    for trial in trials:
        drawn = settings_of(asked, trial.name.number)
        assert all(trial.settings[key] == drawn[key] for key in asked.space)
        assert trial.settings["data"] == "full" and len(trial.epochs) == trial.settings["epochs"] == 8


def test_several_workers_took_part_in_scenario_5(searches):
    assert len({trial.claim["claimed"] for trial in searches["scenario5"].trials}) >= 2


def test_the_tables_are_those_of_the_trials(searches):
    for name in searches:
        rows = [Row.from_trial(trial) for trial in read_results(KEPT / name, epochs=False).trials]
        assert (KEPT / name / "results.csv").read_text() == results_csv(rows)
