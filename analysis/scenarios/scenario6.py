"""Scenario 6, the distributed search: whether each settings file is evaluated once, and one worker against several."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from foldertune.reading import figures, findings
from foldertune.reading.findings import NOT_ENOUGH, Findings
from foldertune.reading.results import Results
from foldertune.reading.spans import Work
from foldertune.reading.words import duration, listed
from foldertune.study import SEED
from foldertune.text import counted


def answer(results: Results, others: Mapping[str, Results]) -> Findings:
    """The findings: whether each settings file was evaluated exactly once, the timeline, and the gain of more workers.

    Args:
        others: the searches to compare, by name, including this one.
    """
    same = {name: o for name, o in others.items() if _is_same_search(results, o) and o.work.counted.spans}
    if not same:
        return Findings([f"Who trained what when: {NOT_ENOUGH}; no trial has ended."])
    answers = [
        *(say_once(name, other) for name, other in same.items()),
        *findings.say_course(results),
        say_gain({name: other.work.counted for name, other in same.items()}),
    ]
    headline = findings.say_best(results)[0]
    pictures = [figures.timeline_picture(results)] if results.work.spans else []
    return Findings(answers, pictures, headline=headline)


def _is_same_search(a: Results, b: Results) -> bool:
    return (a.study.space, a.study.fixed, a.study.seed) == (b.study.space, b.study.fixed, b.study.seed)


def say_once(name: str, results: Results) -> str:
    """Tell whether each settings file was evaluated exactly once."""
    settings = {str(sorted((k, v) for k, v in trial.settings.items() if k != SEED)) for trial in results.trials}
    text = (
        f"{name}: {counted(len(results.trials), 'settings file')}, {len(settings)} different settings, "
        f"{len(results.ended)} results by {counted(len(results.work.counted.workers), 'worker')}"
    )
    if len(settings) == len(results.trials) and not results.lost and not results.surplus:
        return f"{text}: each evaluated exactly once."
    parts = [findings.say_lost(results)] if results.lost else []
    if results.surplus:
        parts.append(f"trial {listed(results.surplus_numbers)} was evaluated more than once")
    if len(settings) < len(results.trials):
        parts.append(f"{len(results.trials) - len(settings)} had settings that another had, too")
    return f"{text}; {listed(parts)}; each is counted once."


def are_comparable(works: Collection[Work]) -> bool:
    """Have two or more searches trained the same trials, with different numbers of workers?"""
    trained = {frozenset(span.number for span in work.spans) for work in works}
    took_time = all(work.seconds > 0 for work in works)
    return len(trained) == 1 and took_time and len({work.most_at_once for work in works}) > 1


def say_gain(searches: Mapping[str, Work]) -> str:
    """Tell the gain of more workers over fewer, if they have trained the same trials.

    Args:
        searches: the work on the counted trials of each search, by its name.
    """
    if len(searches) < 2:
        return f"One worker against several: {NOT_ENOUGH}; it takes two searches."
    if not are_comparable(searches.values()):
        each = listed(
            f"{name} trained {counted(len(work.spans), 'trial')} by {counted(work.most_at_once, 'worker')}"
            for name, work in searches.items()
        )
        return (
            f"One worker against several: {NOT_ENOUGH}; {each}, and only searches that train the same trials by "
            f"different numbers of workers compare."
        )
    few, many = (choose(searches.values(), key=lambda work: work.most_at_once) for choose in (min, max))
    gain = few.seconds / many.seconds
    return (
        f"{counted(many.most_at_once, 'worker')} trained the same {counted(len(few.spans), 'trial')} in "
        f"{duration(many.seconds)} that {counted(few.most_at_once, 'worker')} trained in {duration(few.seconds)}: "
        f"{gain:.2f} times the throughput."
    )
