"""The strategy that `auto` chooses, and that a search keeps it."""

from __future__ import annotations

import pytest

from foldertune.errors import StudyError
from foldertune.strategies import auto, load

RANGE = "x = { type = 'float', low = 0.0, high = 1.0 }"
RUNGS = "[fidelity]\nsetting = 'epochs'\nlowest = 1\nhighest = 9\n[space]\n" + RANGE
ALIKE = "[fidelity]\nsetting = 'epochs'\n[fixed]\nepochs = 9\n[space]\n" + RANGE


def study_file(path, budget, space=f"[space]\n{RANGE}", strategy="auto"):
    file = path / "mine.toml"
    objective = 'objective = "tests.objectives:brief"\nmetric = "validation_error"\n'
    file.write_text(f'{objective}strategy = "{strategy}"\n{budget}\n{space}\n')
    return str(file)


@pytest.mark.parametrize(
    ("budget", "space", "workers", "chosen", "why"),
    [
        ("trials = 60", f"[space]\n{RANGE}", 2, "tpe", "learns from results"),
        ("trials = 60", f"[space]\n{RANGE}", None, "tpe", "learns from results"),
        ("budget = { hours = 1 }", f"[space]\n{RANGE}", 64, "tpe", "learns from results"),
        ("trials = 19", f"[space]\n{RANGE}", 1, "halton", "19 trials are too few"),
        ("trials = 60", f"[space]\n{RANGE}", 21, "halton", "most of 60 trials begin before 21 workers have results"),
        (
            "trials = 60",
            "[space]\nx = [1, 2, 3]\ny = ['a', 'b']",
            1,
            "halton",
            "only 6 combinations; it tries them all",
        ),
        ("trials = 5", "[space]\nx = [1, 2, 3]\ny = ['a', 'b']", 1, "halton", "5 trials are too few"),
        ("trials = 180", RUNGS, 60, "tpe", "screening tries many settings, and it learns from those that come far"),
        ("trials = 180", RUNGS, 61, "halton", "most settings begin before 61 workers have results"),
        ("trials = 179", RUNGS, 1, "halton", "too few of 179 settings come far enough to learn from"),
        ("budget = { epochs = 600 }", RUNGS, 105, "tpe", "screening tries many settings"),
        ("budget = { epochs = 600 }", RUNGS, 106, "halton", "most settings begin before 106 workers have results"),
        ("budget = { epochs = 180 }", RUNGS, 1, "halton", "too few of 95 settings come far enough to learn from"),
        ("budget = { epochs = 171 }", ALIKE, 1, "halton", "19 trials are too few"),
        ("budget = { epochs = 180 }", ALIKE, 7, "halton", "most of 20 trials begin before 7 workers have results"),
        ("budget = { epochs = 180 }", ALIKE, 6, "tpe", "learns from results"),
    ],
)
def test_what_is_chosen(tmp_path, budget, space, workers, chosen, why):
    study = load(study_file(tmp_path, budget, space), workers=workers)
    assert study.strategy == chosen and why in study.why
    assert load(study_file(tmp_path, budget, space), workers=workers) == study
    assert study.trials == (int(budget.split()[-1]) if "trials" in budget else 0)
    named = load(study_file(tmp_path, budget, space, strategy="random"))
    assert named.strategy == "random" and named.why is None


GUESSED = RANGE.replace(" }", ", guess = 0.5 }")


@pytest.mark.parametrize(
    ("space", "workers", "chosen"),
    [(f"[space]\n{GUESSED}", 1, "random"), (f"[space]\n{GUESSED}", 21, "random"),
     (RUNGS.replace(RANGE, GUESSED), 1, "random"), ("[space]\nx = { type = 'categorical', choices = [1, 2], guess = 2 }", 1, "halton")],
)  # fmt: skip
def test_a_sequence_would_do_nothing_with_a_guess(tmp_path, space, workers, chosen):
    study = load(study_file(tmp_path, "trials = 19", space), workers=workers)
    assert study.strategy == chosen and ("around your guess" in study.why) == (chosen == "random")


def test_known_results_are_learnt_from_however_few_trials_follow(tmp_path):
    study = load(study_file(tmp_path, "trials = 12"), workers=64, is_warm=True)
    assert study.strategy == "tpe" and "learns from the results that are known" in study.why


def test_without_the_library_it_is_random(tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "find_spec", lambda name: None)
    study = load(study_file(tmp_path, "trials = 60"))
    assert study.strategy == "random" and "tpe would suit it, but needs optuna: pip install" in study.why


def test_a_search_keeps_what_was_chosen(bench):
    """When it is extended, and if somebody else's number of workers would have it choose otherwise."""
    file = study_file(bench.path, "trials = 12")
    said = bench.search(file, "--workers", 1)
    assert "halton search (auto: 12 trials are too few to learn from; it covers the space evenly)" in said
    record = bench.folder.read_study()
    assert record["strategy"] == "halton" and "too few" in record["why"]
    said = bench.search(file, "--workers", 1, "--trials", 24)
    assert "24 trials, halton search (auto: 12 trials are too few" in said
    bench.assert_complete(24)
    said = bench.finish(bench.start("master.py", file, "--logs", bench.logs, "--strategy", "random"), 2)
    assert "strategy (halton in the folder, now random)" in said
    with pytest.raises(StudyError, match="did you mean 'auto'"):
        load(study_file(bench.path, "trials = 12", strategy="autos"))


def test_the_folder_names_no_code(bench):
    """Whoever may write to the folder must not choose what the master runs."""
    file, evil = study_file(bench.path, "trials = 4"), bench.path / "evil.py"
    bench.search(file, "--workers", 1)
    evil.write_text("print('this runs')\ndef go(study, number, history): return {'x': 0.5}\n")
    done = bench.folder.study_done
    done.write_text(done.read_text().replace('"halton"', f'"{evil}:go"'))
    said = bench.finish(bench.start("master.py", file, "--logs", bench.logs, "--trials", 5), 2)
    assert "this runs" not in said and "now halton)" in said
