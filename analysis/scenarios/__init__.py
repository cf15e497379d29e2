"""The six scenarios of the exercise. Each file answers the questions of one scenario from the measured data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis.scenarios import scenario1, scenario2, scenario3, scenario4, scenario5, scenario6
from foldertune.reading import figures, findings
from foldertune.reading.findings import Findings
from foldertune.reading.results import Results

Question = Callable[[Results], Findings]
NEEDED: dict[str, tuple[str, ...]] = {
    "scenario1": ("learning_rate",),
    "scenario2": ("batch_size", "learning_rate"),
    "scenario3": ("learning_rate", "momentum"),
    "scenario4": ("filters",),
    "scenario5": ("batch_size", "learning_rate", "momentum", "filters"),
    "scenario6": ("batch_size", "learning_rate", "momentum", "filters"),
}
QUESTIONS: dict[str, Question] = {
    "scenario1": scenario1.answer,
    "scenario2": scenario2.answer,
    "scenario3": scenario3.answer,
    "scenario4": scenario4.answer,
    "scenario5": scenario5.answer,
}


def scenario_of(results: Results) -> str | None:
    """The scenario of a study, recognised by its name and its search space; None for any other study."""
    needed = NEEDED.get(results.study.name)
    return results.study.name if needed is not None and set(needed) == set(results.study.space) else None


def find(results: Results, others: Mapping[str, Results]) -> Findings:
    """The findings of a scenario, or the general findings if the study is not a scenario.

    Args:
        others: all studies on the page, by name. Scenario 6 compares them.
    """
    name = scenario_of(results)
    if name is None:
        return findings.find(results)
    tables = [findings.setbacks_table(results)] if results.setbacks else []
    losses = findings.say_losses(results, collapsed=name != "scenario5" or not results.collapsed)
    found = scenario6.answer(results, others) if name == "scenario6" else QUESTIONS[name](results)
    found.answers += losses
    found.tables += tables
    if tables and name in ("scenario1", "scenario2", "scenario3", "scenario4"):
        found.pictures.append(figures.timeline_picture(results))
    return found
