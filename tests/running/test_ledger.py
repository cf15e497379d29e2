"""The ledger of counted, open and lost trials, without any files."""

from __future__ import annotations

from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.running.ledger import Ledger, Loss


def trial(number, attempt=1):
    return Trial(TrialName(number, attempt, "seen"), {"x": number}, result={"loss": 0.5})


def test_a_trial_is_open_then_lost_then_open_then_counted():
    ledger = Ledger()
    assert not ledger.knows(7)
    ledger.note(TrialName(7, 1), Proposal({"x": 7}))
    assert ledger.knows(7) and ledger.open == {7: Proposal({"x": 7})} and ledger.attempts == {7: 1}
    ledger.lose(TrialName(7, 1), "its worker died", Proposal({"x": 7}))
    assert ledger.losses == {7: Loss(1, Proposal({"x": 7}))} and ledger.reasons == {7: ["its worker died"]}
    ledger.note(TrialName(7, 2), Proposal({"x": 7}))
    assert not ledger.losses and ledger.attempts == {7: 2}
    ledger.count(trial(7, 2))
    assert list(ledger.counted) == [7] and not ledger.open and not ledger.attempts
    assert ledger.ended == 2, "an attempt lost and a trial counted"


def test_only_the_latest_attempt_must_be_followed_up():
    ledger = Ledger()
    ledger.note(TrialName(7, 2))
    ledger.lose(TrialName(7, 1), "late", Proposal({"x": 7}))
    assert not ledger.losses and ledger.reasons == {7: ["late"]}
    ledger.count(trial(7, 2))
    ledger.lose(TrialName(7, 3), "surplus", None)
    assert not ledger.losses and not ledger.open and ledger.reasons == {7: ["late"]}


def test_news_is_a_later_attempt_of_a_trial_that_is_not_counted():
    ledger = Ledger()
    assert ledger.is_news(TrialName(0, 0)) and ledger.is_news(TrialName(0, 1))
    ledger.note(TrialName(0, 2))
    assert (
        not ledger.is_news(TrialName(0, 1)) and not ledger.is_news(TrialName(0, 2)) and ledger.is_news(TrialName(0, 3))
    )
    ledger.count(trial(0, 2))
    assert not ledger.is_news(TrialName(0, 3))


def test_settings_once_known_stay_known():
    ledger = Ledger()
    ledger.note(TrialName(3, 1), Proposal({"x": 3}))
    ledger.lose(TrialName(3, 1), "its file is broken", None)
    assert ledger.losses == {3: Loss(1, None)} and ledger.open == {3: Proposal({"x": 3})}


def test_an_attempt_that_may_be_there_unseen_is_left_out():
    ledger = Ledger()
    ledger.lose(TrialName(3, 4), "its worker died", Proposal({"x": 3}), skipped=1)
    assert ledger.losses[3].attempt == 5 and ledger.attempts == {3: 4}


def test_trials_in_order_and_beyond_the_budget():
    ledger = Ledger()
    for number in (90000, 2, 0):
        ledger.count(trial(number))
    ledger.note(TrialName(90001, 1))
    ledger.note(TrialName(1, 1))
    assert [each.name.number for each in ledger.in_order()] == [0, 2, 90000] and ledger.beyond(3) == 2


def test_a_strategy_sees_what_the_ledger_holds():
    ledger = Ledger()
    ledger.note(TrialName(1, 1), Proposal({"x": 1}))
    ledger.count(trial(0))
    history = ledger.history
    ledger.count(trial(1))
    assert list(history.counted) == [0, 1] and not history.open
