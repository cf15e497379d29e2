"""Explores everything that can happen in a small study: see model.py. docs/protocol.md says what is modelled."""

from __future__ import annotations

import pytest

from foldertune.budget import Budget
from foldertune.protocol import Claim, Folder, Masters, TrialName
from foldertune.strategies import schedules
from tests.explorers import model
from tests.explorers.model import FAULTS, WITH_PROMOTIONS, WITH_TARGET, Explorer, what_is_handed_in_is_counted


@pytest.mark.parametrize("fault", FAULTS)
def test_no_order_of_events_with_one_fault_loses_or_doubles_a_result(fault):
    finding = Explorer(trials=1, workers=2, faults=1, kinds=[fault]).explore()
    print(finding)
    assert finding.violation is None and finding.complete, finding
    assert finding.states > 2_000, "so small a graph: has the model come apart from the code?"


def test_two_trials_and_two_workers():
    finding = Explorer(trials=2, workers=2, faults=0, epochs=0).explore()
    print(finding)
    assert finding.violation is None and finding.complete, finding


def test_a_target_that_is_reached_while_trials_wait():
    """A part of what `python -m tests.explorers.model --target` explores."""
    study = {"trials": 2, "workers": 1, "kinds": ["late"], "epochs": 0, "budget": Budget(target=0.5)}
    finding = Explorer(**study, invariants=WITH_TARGET).explore()
    print(finding)
    assert finding.violation is None and finding.complete, finding

    def none_is_withdrawn(disk, beliefs, trials_asked):
        return "withdrawn" if any(path.endswith(".withdrawn") for path, _ in disk.names) else None

    assert Explorer(**study, invariants=[none_is_withdrawn]).explore().violation == "withdrawn"


def test_a_trial_and_one_that_goes_on_with_it(monkeypatch):
    """A part of what `python -m tests.explorers.model --promotions` explores."""
    study = {"trials": 2, "workers": 1, "faults": 0, "epochs": 0, "promotes": True}
    finding = Explorer(**study, invariants=WITH_PROMOTIONS).explore()
    print(finding)
    assert finding.violation is None and finding.complete, finding
    monkeypatch.setattr(schedules, "parents", lambda history: set())
    finding = Explorer(**study | {"trials": 3}, invariants=WITH_PROMOTIONS).explore()
    assert finding.violation and "both go on with trial 0" in finding.violation


def test_two_masters():
    """Both want to lead from the beginning; later, the other follows the one that has ended."""
    finding = Explorer(workers=1, faults=0, epochs=0, masters=2).explore()
    print(finding)
    assert finding.violation is None and finding.complete, finding
    assert finding.states > 2_000


def test_a_master_that_is_followed_while_it_is_suspended_and_comes_back():
    """A part of what `python -m tests.explorers.model --masters` explores."""
    finding = Explorer(workers=1, faults=1, kinds=["usurp"], epochs=0, masters=2, most=60_000).explore()
    print(finding)
    assert finding.violation is None, finding


def test_the_explorer_finds_a_master_that_does_not_look_whether_it_still_leads(monkeypatch):
    monkeypatch.setattr(Masters, "has_follower", lambda masters, number: False)
    assert "without a look" in Explorer(workers=1, faults=0, epochs=0, masters=2).explore().violation


def test_the_explorer_finds_two_masters_of_one_number(monkeypatch):
    monkeypatch.setattr(model.Disk, "link", model.Disk.rename)
    assert "same number" in Explorer(workers=1, faults=0, epochs=0, masters=2).explore().violation


def look_for_a_double_count(**options):
    """Look only for two workers that have handed in the same trial, not for the steps that led to it."""
    return Explorer(epochs=0, invariants=[what_is_handed_in_is_counted], forbidden=lambda *_: None, **options).explore()


DOUBLE = "two workers were told that they have handed in the same trial"


def test_without_the_owner_in_the_name_a_trial_is_counted_twice(monkeypatch):
    to = TrialName.to
    monkeypatch.setattr(TrialName, "to", lambda name, state, owner="": to(name, state, owner and "somebody"))
    assert look_for_a_double_count(faults=0).violation == DOUBLE
    assert Explorer(faults=0).explore().violation == "two workers believe that they hold one attempt"


def test_without_the_attempt_in_the_name_a_trial_is_counted_twice(monkeypatch):
    monkeypatch.setattr(TrialName, "next_attempt", lambda name: TrialName(name.number, 1))
    assert look_for_a_double_count(faults=0).violation is None, "it takes an attempt that is lost"
    assert look_for_a_double_count(faults=1).violation == DOUBLE
    assert Explorer(faults=1).explore().violation == "two workers believe that they hold one attempt"


def test_the_explorer_finds_a_result_that_is_not_synced(monkeypatch):
    def careless(claim, record):
        if not claim._said_last_word:
            claim.append(record)

    monkeypatch.setattr(Claim, "_make_safe", careless)
    assert Explorer(faults=1, kinds=["power"]).explore().violation


def test_the_explorer_finds_a_last_word_said_twice(monkeypatch):
    def forgetful(claim, record):
        claim.append(record, sync=True)
        claim.hand_in()

    monkeypatch.setattr(Claim, "finish", forgetful)
    assert "not its own" in Explorer(faults=1, kinds=["late"]).explore().violation


def test_the_explorer_finds_a_search_that_never_ends(monkeypatch):
    monkeypatch.setattr(Folder, "collect", lambda folder, name: None)
    assert "can't be completed" in Explorer(faults=0).explore().violation


def test_a_call_that_the_model_does_not_know_is_no_success(monkeypatch):
    monkeypatch.setattr(Folder, "has", lambda folder, name: model.system().access(folder.locate(name), 0))
    with pytest.raises(model.NotFaked, match=r"os\.access"):
        Explorer(faults=0).explore()


def test_the_explorer_finds_a_result_that_is_not_believed_in_because_of_one_glance(monkeypatch):
    monkeypatch.setattr(model.ModelWatch, "is_in_doubt", lambda watch, name: False)
    assert "handed in" in Explorer(faults=1, kinds=["short"]).explore().violation


STOPPING = {"workers": 1, "faults": 1, "kinds": ["kill"], "stopping": True}


def test_requests_to_stop_whoever_is_killed():
    """A part of what `python -m tests.explorers.model --stopping` explores."""
    stopped = set()

    def note_who_is_stopped(disk, beliefs, trials_asked):
        seen = model.seen_files(disk)
        stopped.update(name.attempt for name, story in seen if any("stopped" in record for record in story))

    finding = Explorer(**STOPPING, invariants=[*model.INVARIANTS, note_who_is_stopped]).explore()
    print(finding)
    assert finding.violation is None and finding.complete, finding
    assert stopped == {1, 2}, "so few are stopped: has the model come apart from the code?"


def test_the_explorer_finds_a_request_that_stops_a_later_attempt(monkeypatch):
    to = TrialName.to

    def without_the_attempt(name, state, owner=""):
        return TrialName(name.number, 1, "stop") if state == "stop" else to(name, state, owner)

    monkeypatch.setattr(TrialName, "to", without_the_attempt)
    monkeypatch.setattr(model.ModelStopper, "_tidy", lambda stopper, taken: None)
    assert "another attempt" in Explorer(**STOPPING).explore().violation
