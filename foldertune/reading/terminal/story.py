"""Tells one trial's story in a terminal: why it exists, what came of it, and which trials go on with it."""

from __future__ import annotations

from pathlib import Path

from foldertune.confirm import confirmed_by
from foldertune.protocol import Folder, Trial, printable
from foldertune.reading.explain import how
from foldertune.reading.results import Results
from foldertune.reading.words import described, listed
from foldertune.tables import cell_of, short


def tell(folder: Folder, results: Results, trial: Trial) -> list[str]:
    """The lines of a trial's story."""
    study = results.study
    lines = [
        f"trial {trial.name.label}, {_came_to(results, trial)}",
        f"why: {how(study, trial)}",
        f"settings: {', '.join(f'{key} {short(cell_of(trial.settings, key))}' for key in trial.settings)}",
    ]
    chain = results.chain(trial)
    if len(chain) > 1:
        lines.append("training: " + " → ".join(_step(results, each) for each in chain))
    known = (*results.trials, *results.in_hand)
    number = trial.name.number
    if after := [other.name.number for other in known if other.parent and other.parent.number == number]:
        lines.append(f"went on in trial {listed(after)}")
    if again := next((each for each in results.confirmation.ranked if each.number == number), None):
        numbers = [other.name.number for other in again.confirmations]
        lines.append(f"confirmed: {again.sample.show(study.quantity(study.metric))}, in trial {listed(numbers)}")
    lines += [f"lost: {reason}" for reason in trial.lost]
    if trial.claim.get("claimed"):
        lines.append(f"worker: {trial.claim['claimed']}")
    lines.append(f"file: {_file(folder, trial)}")
    return [printable(line) for line in lines]


def _came_to(results: Results, trial: Trial) -> str:
    """What is known of its outcome, with its place among the trials of the search."""
    study, value = results.study, results.value(trial)
    if trial.name.state != "seen":
        return {"taken": "running", "done": "finished, not yet counted"}.get(trial.name.state, trial.name.state)
    if trial.dropped:
        return trial.dropped
    if trial.result is None:
        return f"failed: {trial.error}"
    status = f"stopped early ({trial.stopped})" if trial.stopped else "succeeded"
    if value is None:
        return f"{status}, without a {study.metric}"
    shown = f"{status}: {study.metric} {study.quantity(study.metric).show(value, 4)}"
    if confirmed_by(trial.why) is not None:
        return shown
    rung = next((rung.trials for rung in results.rungs if rung.level == results.level(trial)), None)
    among = results.ranking if rung is None else rung
    names = [other.name for other in among if confirmed_by(other.why) is None]
    where = "" if rung is None else " in its rung"
    return f"{shown}, place {names.index(trial.name) + 1} of {len(names)}{where}"


def _step(results: Results, trial: Trial) -> str:
    setting, value = results.study.fidelity and results.study.fidelity.setting, results.value(trial)
    told = described(trial.settings, [setting]) if setting else ""
    shown = "" if value is None else results.study.quantity(results.study.metric).show(value, 4)
    inside = ", ".join(part for part in (told, shown) if part)
    return f"trial {trial.name.number}{f' ({inside})' if inside else ''}"


def _file(folder: Folder, trial: Trial) -> Path | str:
    return folder.kept if folder.is_kept() else folder.locate(trial.name)
