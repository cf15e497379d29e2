"""Explains a search: why its trials exist, what its rungs were, and what came of confirmations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from foldertune.changes import Change
from foldertune.confirm import REPEAT, confirmed_by
from foldertune.protocol import Trial
from foldertune.reading.confirmed import confirmed_rows
from foldertune.reading.content import Table
from foldertune.reading.results import Results
from foldertune.reading.samples import chance_of_difference, verdict
from foldertune.reading.words import listed
from foldertune.study import Study
from foldertune.text import amount, counted

BY_HAND = 90_001  # people queue trials under numbers from this one on, if the study itself has no last number
IN_WORDS = {"mean": "mean", "deviation": "deviation", "in_search": "in the search"}

# ---------------------------------------------------------------- a trial


def why(study: Study, trial: Trial) -> str:
    """Why a trial exists; empty if there is nothing to say but the study's strategy."""
    known = {key: value for key, value in trial.why.items() if type(value) is int}
    bracket = [f"bracket {known['bracket']}"] if "bracket" in known else []
    if (number := confirmed_by(trial.why)) is not None:
        return f"confirms trial {number}, repeat {known.get(REPEAT, '?')}"
    if trial.parent:
        is_apart = "learnt" in trial.why and not bracket  # it was compared with what the strategy chose, too
        chosen_by = f" chosen by {_strategy_of(study, trial)}" if is_apart and not trial.why.get("rest") else ""
        place = [f"place {known['place']} of {known['among']}{chosen_by}"] if {"place", "among"} <= known.keys() else []
        place += ["with what is left of the budget"] if trial.why.get("rest") else []
        return ", ".join([f"goes on with trial {trial.parent.number}{_until(study, trial)}", *place, *bracket])
    if "first" in known:
        has_guess = _had_guess(study, trial)
        is_guess = has_guess and known["first"] == 1
        number = known["first"] - has_guess  # the guess comes before the list
        return "the guess, tried first" if is_guess else f"to try first, number {number}"
    if not trial.why and (trial.lease is None or trial.name.number >= (study.trials or BY_HAND)):
        return "queued by hand"  # a master writes a lease, and before 2026-12 no strategy's name
    strategy, results = _strategy_of(study, trial), known.get("results")
    chosen = [f"{strategy}, generation {known['generation']}"] if "generation" in known else []
    if trial.why.get("random"):
        chosen.append("drawn at random" + ", before there was enough to learn from" * (results is not None))
    elif results:
        chosen.append(f"{strategy}, from {counted(results, 'result')}{_at(study, trial)}")
    elif results == 0:
        chosen.append(f"{strategy}, from what was known before")
    chosen += ["drawn near the guess"] if "near" in trial.why else []
    chosen += [f"{strategy} search"] if not chosen and strategy != study.strategy else []
    return ", ".join([*chosen, *bracket])


def how(study: Study, trial: Trial) -> str:
    """The same, and never empty."""
    if said := why(study, trial):
        return said
    setting = study.fidelity.setting if study.fidelity else ""
    level = trial.settings.get(setting) if "rung" in trial.why else None
    begins = f", begins with {setting} {amount(level)}" if isinstance(level, int | float) else ""
    return f"{_strategy_of(study, trial)} search{begins}"


def _next_change(study: Study, trial: Trial) -> Change | None:
    """The first change of the study after it made this trial."""
    return next((change for change in study.changes if trial.name.number < change.trial), None)


def _had_guess(study: Study, trial: Trial) -> bool:
    """Had the study a guess when it made this trial?"""
    later = _next_change(study, trial)
    if later is None or not isinstance(space := later.was.get("space"), dict):
        return bool(study.guesses)
    return any(isinstance(dimension, dict) and "guess" in dimension for dimension in space.values())


def _strategy_of(study: Study, trial: Trial) -> str:
    """The strategy that has chosen its settings: the study may have had another one then."""
    later = _next_change(study, trial)
    then = later.was.get("strategy", study.strategy) if later else study.strategy  # files did not always say it
    return str(trial.why.get("strategy", then))


def _at(study: Study, trial: Trial) -> str:
    """How long the trials had trained from which a strategy had learnt, as ` with epochs 3`."""
    level, setting = trial.why.get("learnt"), study.fidelity.setting if study.fidelity else None
    return f" with {setting} {amount(level)}" if setting and isinstance(level, int | float) else ""


def _until(study: Study, trial: Trial) -> str:
    """How long its parent had trained, as ` (epochs 3)`."""
    setting = study.fidelity.setting if study.fidelity else None
    begun: Any = trial.parent.settings.get(setting) if trial.parent and setting else None
    return f" ({setting} {amount(begun)})" if isinstance(begun, int | float) else ""


# ---------------------------------------------------------------- the search


def not_confirmed_yet(results: Results) -> str:
    """How many confirmations have ended; empty if none are to come."""
    known = results.confirmation
    if results.study.confirm is None or not known.asked or (results.complete and not known.lacking):
        return ""
    if results.complete:  # others were dropped since
        trials = f"trial{'s' * (len(known.lacking) > 1)} {', '.join(map(str, known.lacking))}"
        return f"Not confirmed: the settings of {trials}, since others were dropped; start the master again for that."
    there = len(results.trials) - len(results.search)
    return f"Not confirmed yet: {there} of {counted(known.asked, 'confirmation')} have ended."


def say_confirmed(results: Results) -> list[str]:
    """Tell how much the best settings of the search were worth when they were trained again."""
    study, known = results.study, results.confirmation
    quantity = study.quantity(study.metric)
    if (winner := known.winner) is None:
        return [said] if (said := not_confirmed_yet(results)) else []
    before = "" if winner.value is None else f"; the search had seen {quantity.show(winner.value)} there"
    answers = [
        f"This is the mean and the standard deviation of {counted(len(winner.sample.values), 'training')} with new "
        f"seeds{before}, for which it chose these settings."
    ]
    if second := next((each for each in known.ranked if each is not winner and each.sample.values), None):
        chance = verdict(chance_of_difference(winner.sample, second.sample))
        answers.append(f"The second best, those of trial {second.number}: {second.sample.show(quantity)}; {chance}.")
    return answers


def say_rungs(results: Results) -> list[str]:
    """Tell how many trials each rung has, and how many went on from there."""
    fidelity = results.study.fidelity
    if not results.rungs or fidelity is None:
        return []
    rungs = [f"{fidelity.setting} {amount(rung.level)}: {counted(len(rung.trials), 'trial')}" for rung in results.rungs]
    went_on = [f"{rung.promoted} of {len(rung.trials)}" for rung in results.rungs if rung.promoted]
    return [
        f"Rungs of {fidelity.schedule}: {', '.join(rungs)}"
        f"{f'; on to the next went {listed(went_on)}' if went_on else ''}."
    ]


def confirmed_table(results: Results) -> Table:
    """A table with a row for each of the confirmed settings."""
    study = results.study
    rows = confirmed_rows(study, results.confirmation.ranked)
    metric = study.quantity(study.metric)
    quantities = {f"{study.metric}_{what}": replace(metric, label=text) for what, text in IN_WORDS.items()}
    so_far = "" if results.confirmation.is_settled else " so far"
    caption = f"Confirmed settings, the best mean first{so_far}: trained again with new seeds."
    return Table(caption, rows, {**quantities, **{name: study.quantity(name) for name in study.space}})


def rungs_table(results: Results) -> Table:
    """A table with a row for each rung of the schedule."""
    study, fidelity = results.study, results.study.fidelity
    assert fidelity is not None
    best = f"best {study.quantity(study.metric).label}"
    rows = [
        {
            fidelity.setting: rung.level,
            "trials": len(rung.trials),
            "running": rung.running,
            "promoted": rung.promoted,
            best: results.value(rung.trials[0]) if rung.trials else None,
            "in trial": rung.trials[0].name.number if rung.trials else None,
        }
        for rung in results.rungs
    ]
    return Table("Rungs, the lowest first: how many trials came there, and how many went on.", rows,
                 {best: replace(study.quantity(study.metric), label=best)})  # fmt: skip
