"""Settings that were trained again with new seeds, and which of them win."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from foldertune.confirm import FIRST, confirmed_by
from foldertune.finalists import finalists, is_whole, settings_key, value_of
from foldertune.protocol import Trial
from foldertune.reading.samples import Sample
from foldertune.study import Study
from foldertune.tables import Cells, cell_of, finite


@dataclass(frozen=True)
class Confirmed:
    """Settings that are confirmed: the trial that found them, and its confirmations.

    Attributes:
        value: that trial's value of the metric. It is no part of the sample: the trial was chosen for it.
        sample: the values of the confirmations. One that failed, collapsed or was cut short has none.
    """

    trial: Trial
    value: float | None
    confirmations: Sequence[Trial]
    sample: Sample

    @property
    def number(self) -> int:
        """The number of the trial."""
        return self.trial.name.number


@dataclass(frozen=True)
class Confirmation:
    """What is known of all confirmations of a study.

    Attributes:
        ranked: the confirmed settings, the best mean first.
        asked: the number of confirmations that there will be.
        lacking: the finalists, by the numbers of their trials, that have not all of their confirmations yet.
        winner: the settings of the best mean; None until then.
    """

    ranked: Sequence[Confirmed]
    asked: int
    lacking: Sequence[int]
    winner: Confirmed | None

    @property
    def is_settled(self) -> bool:
        """Have all finalists their confirmations?"""
        return not self.lacking


def confirmation_of(study: Study, trials: Sequence[Trial], begun: Iterable[int], *, is_over: bool) -> Confirmation:
    """What these counted trials tell.

    Args:
        begun: the numbers of the confirmations that are counted, in hand or pending.
        is_over: will no other settings be confirmed than those that we know?
    """
    known, by_number = finalists(study, trials), {trial.name.number: trial for trial in trials}
    again: dict[Hashable, list[Trial]] = {settings_key(study, trial.settings): [] for trial in known}
    for trial in trials:
        if confirmed_by(trial.why) is not None:
            again.setdefault(settings_key(study, trial.settings), []).append(trial)
    first = {settings_key(study, trial.settings): trial for trial in known}
    ranked = []
    for key, members in again.items():
        found = first.get(key) or by_number.get(confirmed_by(members[0].why) or 0, members[0])
        sample = Sample.of(value_of(study, trial) if is_whole(study, trial) else None for trial in members)
        ranked.append(Confirmed(found, value_of(study, found), members, sample))
    ranked.sort(key=lambda each: (not each.sample.values, study.sign * each.sample.mean, each.number))
    repeats = study.confirm.repeats if study.confirm else 0
    candidates = [each for each in ranked if repeats and not each.trial.dropped]
    complete = [each for each in candidates if len(each.confirmations) >= repeats and each.sample.values]
    lacking = [t.name.number for t in known if len(again[settings_key(study, t.settings)]) < repeats]
    begun = set(begun)
    wanted = (len(known) * repeats if begun or is_over else study.confirm.trials) if study.confirm else 0
    return Confirmation(
        ranked=[each for each in ranked if each.confirmations],
        asked=len(begun) if is_over else max(wanted, len(begun)),
        lacking=lacking,
        winner=complete[0] if complete and not lacking else None,
    )


def confirmed_rows(study: Study, ranked: Sequence[Confirmed]) -> list[Cells]:
    """A row for each of these settings, in their order."""
    mean, deviation, before = (f"{study.metric}_{what}" for what in ("mean", "deviation", "in_search"))
    any_lacks = any(each.sample.left_out for each in ranked)
    return [
        {
            "trial": each.number,
            mean: finite(each.sample.mean),
            deviation: each.sample.deviation,
            "confirmations": len(each.sample.values),
            **({"left_out": each.sample.left_out} if any_lacks else {}),
            before: each.value,
            **{name: cell_of(each.trial.settings, name) for name in study.space},
        }
        for each in ranked
    ]


def is_confirming(study: Study, number: int) -> bool:
    """Does a trial confirm another, as far as its number tells? Its file may not have been read."""
    return study.confirm is not None and number >= FIRST
