"""A study file describes metrics, derived quantities and collapsed results as data."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from foldertune import derived
from foldertune.definitions import differences
from foldertune.derived import evaluate, names_in
from foldertune.errors import StudyError
from foldertune.strategies import load
from foldertune.study import Quantity
from foldertune.study_file import load_study, study_from_record
from tests.conftest import ROOT

RECORD = {
    "name": "toy", "strategy": "random", "metric": "loss", "trials": 3, "fixed": {"epochs": 4},
    "space": {"rate": {"type": "float", "low": 0.0, "high": 1.0}, "kind": ["a", "b"]},
}  # fmt: skip


def new_study(**more):
    return study_from_record({**RECORD, **more}, "toy.toml")


# ---------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("loss", 0.5),
        ("rate / (1 - decay)", 0.4),
        ("-rate + 2 ** 3 // 3 % 2", -0.2),
        ("sqrt(4) + abs(-1) + exp(0) + log(1) + log10(100) + log2(8)", 9.0),
        ("max(rate, loss, 0.3) - min(rate, loss)", 0.3),
        ("loss > 0.1 and not bad or kind == 'b'", 1.0),
        ("0 < loss <= 0.5", 1.0),
        ("kind == 'b'", 0.0),
        ("1 - bad", 1.0),
        ("bad", 0.0),
        # no value
        ("rate / (1 - one)", None),
        ("nowhere + 1", None),
        ("nowhere", None),
        ("kind + 1", None),
        ("kind", None),
        ("kind * 1000000000", None),
        ("kind % 5", None),
        ("nothing * 2", None),
        ("nothing > 2", None),
        ("listed + listed", None),
        ("sqrt(0 - 1)", None),
        ("log(0)", None),
        ("(0 - 8) ** 0.5", None),
        ("1e999", None),
        ("nan + 1", None),
        ("nan", None),
        ("inf - 1", None),
        ("huge", None),
        ("huge * 2", None),
        ("max(1)", None),
    ],
)
def test_an_expression_has_a_finite_value_or_none(expression, value):
    values = {"loss": 0.5, "rate": 0.2, "decay": 0.5, "one": 1, "bad": False, "kind": "a", "nothing": None}
    values |= {"listed": [1], "nan": math.nan, "inf": math.inf, "huge": 10**400}
    names_in(expression)
    found = evaluate(expression, values)
    assert found is None if value is None else found == pytest.approx(value)
    assert found is None or type(found) is float


@pytest.mark.parametrize("expression", ["9 ** 9 ** 9", "3999999 ** 3999999", "big ** big", "exp(big)", "text * big"])
def test_no_expression_takes_long(expression):
    start = time.monotonic()
    assert evaluate(expression, {"big": 3_999_999, "text": "a"}) is None
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate /", "is no expression: invalid syntax"),
        ("", "is no expression"),
        ("rate = 3", "is no expression"),
        ("(" * 300, "is no expression"),
        ("1" * 501, "is longer than 500 characters"),
        ("sqr(rate)", "has no function 'sqr' (did you mean 'sqrt'?)"),
        ("open('x')", "has no function 'open'; there are abs, exp,"),
        ("__import__('os').system('ls')", "has no function"),
        ("rate.real", "names 'rate.real', but the setting 'rate' is no table"),
        ("(rate + 1).real", "may only have numbers, names, + - * /"),
        ("[rate]", "may only have"),
        ("rate[0]", "may only have"),
        ("rate if kind else 2", "may only have"),
        ("lambda: 1", "may only have"),
        ("rate @ rate", "may only have"),
        ("rate << 3", "may only have"),
        ("f'{rate}'", "may only have"),
        ("max(*kind)", "may only have"),
        ("log(rate, base=2)", "calls log without a value, or with a named one; write log(x)"),
        ("sqrt()", "calls sqrt without a value"),
        ("None", "contains None"),
        ("2j", "contains 2j"),
    ],
)
def test_anything_else_is_refused_when_the_study_is_read(expression, complaint):
    for more in ({"derived": {"x": expression}}, {"collapsed": expression}):
        with pytest.raises(StudyError) as caught:
            new_study(**more)
        message = str(caught.value)
        assert message.startswith(f"toy.toml: {'derived.x' if 'derived' in more else 'collapsed'}: ")
        assert complaint in message and "\n" not in message


def test_names_are_settings_and_metrics_and_no_functions():
    assert names_in("log(log) + max(a, b) > c and not d") == {"log", "a", "b", "c", "d"}


def test_ten_thousand_trials_take_no_time():
    study = load("scenario5")
    settings, metrics = {"learning_rate": 0.1, "momentum": 0.5}, {"test_accuracy": 0.9, "diverged": False}
    study.derive(settings, metrics)
    start = time.monotonic()
    for _ in range(10_000):
        study.derive(settings, metrics)
        study.has_collapsed(settings, metrics)
    assert time.monotonic() - start < 1


# ---------------------------------------------------------------- derived quantities of a study


def test_derived_quantities_of_a_result_and_of_an_epoch():
    study = load("quickstart")
    settings = {"learning_rate": 0.1, "momentum": 0.5}
    assert study.derive(settings, {"test_accuracy": 0.9}) == {
        "effective_rate": 0.2, "epoch_error": None, "test_error": pytest.approx(0.1),
    }  # fmt: skip
    assert study.derive(settings, {"epoch": 1, "validation_accuracy": 0.75})["epoch_error"] == 0.25
    assert study.derive({**settings, "momentum": 1.0}, {})["effective_rate"] is None
    assert study.derive({}, {}) == dict.fromkeys(study.derived)


def test_one_may_be_derived_from_another_and_a_setting_comes_before_a_metric():
    study = new_study(derived={"twice": "2 * rate", "four": "2 * twice", "share": "epoch / epochs"})
    assert study.derive({"rate": 0.5, "epochs": 4}, {"rate": 9.0, "epoch": 1}) == {
        "twice": 1.0, "four": 2.0, "share": 0.25,
    }  # fmt: skip


def test_a_metric_that_a_result_really_has_comes_before_a_derived_quantity():
    study = new_study(derived={"error": "1 - accuracy", "percent": "100 * error"})
    assert study.derive({}, {"accuracy": 0.75, "error": 0.5}) == {"error": 0.5, "percent": 50.0}
    assert study.derive({}, {"accuracy": 0.75, "error": None}) == {"error": 0.25, "percent": 25.0}
    assert study.derive({}, {"accuracy": 0.75}) == {"error": 0.25, "percent": 25.0}


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"derived": {"rate": "2 * rate"}}, "derived.rate: is the name of a setting; choose another"),
        ({"derived": {"epochs": "2"}}, "derived.epochs: is the name of a setting"),
        ({"derived": {"seed": "2"}}, "derived.seed: is the name of a setting"),
        ({"derived": {"x": "2 * y", "y": "2"}}, "derived.x: uses 'y', which is not derived yet; put it below 'y'"),
        ({"derived": {"x": "x + 1"}}, "derived.x: uses 'x', which is not derived yet"),
        ({"derived": {"x": 3}}, "derived.x: its value must be an expression in quotes"),
        ({"derived": {"x": {"label": "X"}}}, "derived.x: its value must be an expression in quotes"),
        (
            {"derived": {"x": {"value": "1", "lable": "X"}}},
            "unknown key 'lable' (did you mean 'label'?); known for a d",
        ),
        ({"derived": {"x": {"value": "1", "unit": 3}}}, "derived.x: unit must be text in quotes, not 3"),
        ({"derived": 3}, "derived: must be a table, [derived], not 3"),
        ({"derived": {"x": "1"}, "metrics": {"x": {}}}, "metrics.x: is in [derived] as well"),
        ({"metrics": {"loss": "the loss"}}, "metrics.loss: must be a table such as { label ="),
        ({"metrics": {"loss": {"scale": "logarithmic"}}}, 'metrics.loss.scale: must be "auto" or "linear" or "log"'),
        ({"metrics": {"loss": {"scale": ["log"]}}}, 'metrics.loss.scale: must be "auto" or "linear" or "log"'),
        ({"metrics": {"loss": {"units": "s"}}}, "unknown key 'units' (did you mean 'unit'?); known for a metric"),
        ({"metrics": {"loss": {"label": 3}}}, "metrics.loss: label must be text in quotes, not 3"),
        ({"metric": None}, 'metric: is missing; add metric = "loss"'),
        ({"collapsed": True}, "collapsed: must be text in quotes, not True"),
        ({"program": 3}, "program: must be text in quotes, not 3"),
        ({"derivd": {}}, "unknown key 'derivd' (did you mean 'derived'?)"),
    ],
)
def test_a_bad_description_is_refused_with_file_key_and_remedy(more, complaint):
    with pytest.raises(StudyError) as caught:
        new_study(**more)
    assert str(caught.value).startswith("toy.toml: ") and complaint in str(caught.value), caught.value


# ---------------------------------------------------------------- collapsed, program


@pytest.mark.parametrize(
    ("collapsed", "metrics", "answer"),
    [
        ("diverged", {"diverged": True}, True),
        ("diverged", {"diverged": False}, False),
        ("diverged", {"diverged": None}, False),
        ("diverged", {"diverged": "yes"}, False),
        ("diverged", {}, False),
        ("loss > 10", {"loss": 11}, True),
        ("loss > 10", {"loss": 9}, False),
        ("loss > 10", {"loss": None}, False),
        ("loss > 10 or diverged", {"loss": 1, "diverged": True}, True),
        ("loss > rate", {"loss": 0.6}, True),
        (None, {"diverged": True}, False),
    ],
)
def test_what_counts_as_collapsed_is_the_studys_business(collapsed, metrics, answer):
    study = replace(new_study(), collapsed=collapsed)
    assert study.has_collapsed({"rate": 0.5}, metrics) is answer


def test_the_shipped_studies_describe_what_the_exercise_returns():
    for name in ("quickstart", "scenario5-auto", *(f"scenario{k}" for k in range(1, 7))):
        study = load(name)
        assert study.collapsed == "diverged" and study.program == "python exercise3.py"
        assert study.quantity(study.metric) == Quantity("validation error", "%", "log")
        assert ("effective_rate" in study.derived) == ({"learning_rate", "momentum"} <= set(study.space))
        assert study.quantity("epoch_error").unit == "%"


# ---------------------------------------------------------------- how numbers are shown


@pytest.mark.parametrize(
    ("quantity", "value", "shown", "title"),
    [
        (Quantity("validation error", "%"), 0.0071, "0.71 %", "validation error (%)"),
        (Quantity("validation error", "%"), 1, "100.00 %", "validation error (%)"),
        (Quantity("training loss"), 0.07534, "0.0753", "training loss"),
        (Quantity("training time", "s"), 271.4, "271 s", "training time (s)"),
    ],
)
def test_a_value_is_shown_in_its_unit(quantity, value, shown, title):
    assert quantity.show(value) == shown and quantity.title == title


def test_digits_are_a_matter_of_choice():
    assert Quantity("loss").show(0.07534, 2) == "0.075" and Quantity("loss").show(1234567.0, 2) == "1.2e+06"


def test_a_quantity_that_nobody_described():
    assert new_study().quantity("training_loss") == Quantity("training loss", "", "auto")


def test_settings_can_be_described_too():
    study = new_study(metrics={"rate": {"label": "learning rate", "scale": "log"}})
    assert study.quantity("rate") == Quantity("learning rate", "", "log")


# ---------------------------------------------------------------- as it is kept


def test_a_description_comes_back_from_the_record_and_makes_no_other_study():
    described = new_study(
        metrics={"loss": {"unit": "s"}, "accuracy": {}},
        derived={"x": "rate * 2", "y": {"value": "1 - accuracy"}, "z": {"value": "rate", "scale": "log"}},
        collapsed="loss > 3", program="python mine.py",
    )  # fmt: skip
    record = described.to_record()
    assert study_from_record(record, "study.json") == described
    assert record["metrics"] == {"loss": {"unit": "s"}, "accuracy": {}} and record["derived"]["x"] == "rate * 2"
    plain = new_study()
    assert {"metrics", "derived", "collapsed", "program"}.isdisjoint(plain.to_record())
    assert differences(plain, described) == [] == differences(described, plain)
    assert differences(plain, replace(described, metric="accuracy")) == ["metric (loss in the folder, now accuracy)"]


# ---------------------------------------------------------------- without simpleeval


@pytest.fixture
def no_simpleeval(monkeypatch):
    monkeypatch.setitem(sys.modules, "simpleeval", None)
    derived._evaluator.cache_clear()
    yield
    derived._evaluator.cache_clear()


def test_without_the_library_there_is_no_derived_value_and_one_line_says_why(no_simpleeval):
    study = load("quickstart")
    assert study.derive({"learning_rate": 0.1, "momentum": 0.5}, {}) == dict.fromkeys(study.derived)
    assert study.missing_library() == (
        "without simpleeval there is no effective_rate, epoch_error, test_error; "
        "install it with: pip install 'foldertune[report]'"
    )
    assert study.has_collapsed({}, {"diverged": True}) and not study.has_collapsed({}, {"diverged": False})


def test_what_needs_no_library_says_nothing_of_it(no_simpleeval):
    assert new_study(collapsed="diverged").missing_library() is None
    assert new_study(derived={"copy": "loss"}).missing_library() is None
    assert new_study(derived={"copy": "loss"}).derive({}, {"loss": 2})["copy"] == 2.0
    assert "no collapsed;" in new_study(collapsed="loss > 3").missing_library()


def test_with_the_library_there_is_nothing_to_say():
    assert load("quickstart").missing_library() is None


def test_a_study_is_read_without_the_library():
    code = "import sys; sys.modules['simpleeval'] = None; from foldertune.strategies import load; load('quickstart')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_study_that_needs_no_evaluation_does_not_import_the_library():
    code = "import sys; from foldertune.strategies import load; load('quickstart').has_collapsed({}, {}); "
    code += "assert 'simpleeval' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_files_and_names_load_the_same_study():
    assert load_study("scenario5") == load_study(str(ROOT / "studies" / "scenario5.toml"))
