"""Results are filtered, sorted, grouped, written in many formats, and kept in a small form; also many of them."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import stat
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest

from bench.reading import make_folder
from foldertune.errors import StudyError
from foldertune.protocol import Folder, TrialName, to_line
from foldertune.reading.frame import load
from foldertune.reading.reader import read_results
from foldertune.rows import Row, results_csv
from tests.conftest import ROOT, Bench, settings_of
from tests.protocol.test_hostile import respect_permissions

PANDAS = "pandas is not installed: pip install pandas pyarrow"
PYARROW = "pyarrow is not installed: pip install pandas pyarrow"
STUDY = {
    "name": "toy", "strategy": "grid", "trials": 12, "repeats": 3, "metric": "validation_error", "collapsed": "diverged",
    "fixed": {"epochs": 2}, "space": {"rate": [0.1, 0.30000000000000004], "filters": [8, 16]},
}  # fmt: skip


def put(folder: Folder, number, settings, result, *, state="seen", attempt=1, epochs=(), first=None, claim=None):
    """Write a trial's file with these lines."""
    lines = [
        {"settings": settings, "lease": 180.0, **(first or {})},
        {
            "claimed": f"gpu-{number}-abcd",
            "host": "gpu",
            "time": f"2026-01-01T00:00:{number:02d}.000Z",
            **(claim or {}),
        },
        *epochs,
    ]
    if result is not None:
        lines.append({"result": result, "time": f"2026-01-01T00:10:{number:02d}.000Z"})
    with open(folder.locate(TrialName(number, attempt, state)), "wb") as file:
        file.write(b"".join(map(to_line, lines)))


def fill(bench: Bench, study=STUDY) -> Folder:
    """Four settings, three trials each; the errors are k²/1000, but 10 diverged and 11 failed."""
    folder = bench.folder
    folder.prepare()
    folder.write_study(study)
    for k in range(11):
        settings = {"rate": [0.1, 0.1 * 3][k // 2 % 2], "filters": [8, 16][k % 2], "seed": k, "epochs": 2}
        result = {"validation_error": k * k / 1000, "loss": 2.0 * k, "seconds": 30.0 - k, "diverged": k == 10}
        put(folder, k, settings, result)
    folder.record_failure(
        TrialName(11, 3), {"rate": 0.1 * 3, "filters": 16, "seed": 11, "epochs": 2}, ["no memory"] * 3
    )
    return folder


def run(bench: Bench, *arguments, code=0, logs=None):
    """The output of `results`. It must print nothing to stderr or, with exit code 2, one line."""
    command = [sys.executable, "-m", "foldertune", "results", "--logs", logs or bench.logs, *arguments]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and not done.stdout, done.stderr
        return done.stderr
    assert not done.stderr
    return done.stdout


def table(bench: Bench, *arguments):
    """All selected rows, as objects."""
    return json.loads(run(bench, "--all", "--format", "json", *arguments))


def trials(bench: Bench, *conditions):
    return [row["trial"] for row in table(bench, *(part for c in conditions for part in ("--where", c)))]


# ---------------------------------------------------------------- choosing


def test_conditions(bench):
    fill(bench)
    assert trials(bench, "filters<16") == [0, 2, 4, 6, 8, 10]
    assert trials(bench, "filters=8.0", "seconds >= 24") == [0, 2, 4, 6]
    assert trials(bench, "rate==0.30000000000000004") == [2, 3, 6, 7, 10, 11]
    assert trials(bench, "trial!=3") == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert trials(bench, "status=failed") == trials(bench, "validation_error=") == trials(bench, "error!=") == [11]
    assert trials(bench, "diverged=True") == [10] and trials(bench, "diverged!=true") == list(range(10))
    assert trials(bench, "claimed>=2026-01-01T00:00:09") == [9, 10]
    assert trials(bench, "validation_error<=0.001") == [0, 1]  # the failed one has no value, and is none of them
    assert "no such trial" in run(bench, "--where", "filters>99")


def test_conditions_on_what_is_no_number_only(bench):
    folder = fill(bench)
    for k, value in enumerate(["auto", 7, "7", True, None, float("nan"), [1], "9 lives"]):
        put(folder, 20 + k, {"rate": 0.1, "x": k, "x<y": value}, {"validation_error": 0.5})
    assert trials(bench, "x<y=auto") == [20]
    assert trials(bench, "x<y=7") == [21, 22]
    assert trials(bench, "x<y!=7") == [20, 23, 24, 25, 26, 27]  # null is a value
    assert trials(bench, "x<y<8") == [21]  # texts are not compared with numbers
    assert trials(bench, "x<y=true") == [23]
    assert trials(bench, "x<y=[1]") == [26]
    assert trials(bench, "x<y=null") == [24, 25]  # JSON has no nan
    assert 0 in trials(bench, "x<y=") and not trials(bench, "x<y=", "trial>=20") and trials(bench, "x<1") == [20]


def test_sorting(bench):
    fill(bench)
    by = [row["trial"] for row in table(bench, "--sort", "seconds")]
    assert by == [*range(10, -1, -1), 11]
    assert [row["trial"] for row in table(bench, "--sort", "seconds", "--descending")] == list(range(12))
    assert [row["trial"] for row in table(bench, "--sort", "filters")][:3] == [0, 2, 4]  # equal ones: best first
    assert table(bench, "--sort", "status")[0]["status"] == "failed"


def test_columns(bench):
    folder = fill(bench)
    put(folder, 20, {"rate": 0.1, "odd, very": 1, 'a "b"': 2}, {"validation_error": 0.0})
    said = run(bench, "--best", 2, "--columns", 'filters, trial, "odd, very",filters', "--format", "csv")
    assert said.splitlines() == ['filters,trial,"odd, very"', "8,0,", ",20,1"]
    lines = run(bench, "--columns", "loss,trial", "--best", 1).splitlines()
    assert lines[2].split() == ["loss", "trial"] and lines[4].split() == ["0", "0"]


def test_columns_that_no_trial_has_yet(bench):
    bench.folder.prepare()
    bench.folder.write_study(STUDY)
    assert table(bench, "--where", "validation_error<1", "--sort", "rate", "--columns", "filters,trial") == []
    assert table(bench, "--group") == []
    said = run(bench, "--group")
    assert "no trial is counted yet" in said and "So far 0 trials; with every column: " in said


def test_a_metric_with_the_name_of_another_column(bench):
    fill(bench, {**STUDY, "metric": "error", "space": {"rate": [0.1], "host": [1, 2]}, "trials": 2, "repeats": 1})
    for k in range(20, 24):
        put(bench.folder, k, {"rate": 0.1, "host": k % 2}, {"error": k / 100})
    lines = run(bench, "--where", "trial>=20").splitlines()
    assert "result" in lines[2] + lines[3] and lines[5 if "─" in lines[4] else 4].split()[:2] == ["20", "0.2"]
    groups = table(bench, "--group", "--where", "trial>=20")
    assert [(g["setting_host"], g["trials"], g["result_error_mean"]) for g in groups] == [
        (0, 2, pytest.approx(0.21)), (1, 2, pytest.approx(0.22)),
    ]  # fmt: skip


# ---------------------------------------------------------------- groups


def test_groups_of_repeats(bench):
    fill(bench)
    groups = table(bench, "--group")
    assert [(g["rate"], g["filters"], g["trials"], g["left_out"]) for g in groups] == [
        (0.30000000000000004, 8, 3, 1), (0.1, 8, 3, 0), (0.30000000000000004, 16, 3, 1), (0.1, 16, 3, 0),
    ]  # fmt: skip
    members = [(2, 6), (0, 4, 8), (3, 7), (1, 5, 9)]  # which are not left out
    for group, numbers in zip(groups, members, strict=True):
        values = [k * k / 1000 for k in numbers]
        assert group["validation_error_mean"] == pytest.approx(statistics.fmean(values))
        assert group["validation_error_deviation"] == pytest.approx(statistics.stdev(values))  # n - 1
        assert group["seconds_mean"] == 30 - statistics.fmean(numbers)


def test_what_was_dropped_is_in_no_mean(bench):
    fill(bench)
    before = table(bench, "--group")
    bench.finish(bench.start("-m", "foldertune", "drop", 4, "--logs", bench.logs, "--because", "a broken GPU"))
    after = {(g["rate"], g["filters"]): g for g in table(bench, "--group")}
    assert after[0.1, 8]["left_out"] == 1 and after[0.1, 8]["validation_error_mean"] == pytest.approx((0 + 64) / 2000)
    assert all(after[g["rate"], g["filters"]] == g for g in before if (g["rate"], g["filters"]) != (0.1, 8))


def test_groups_with_other_options(bench):
    fill(bench)
    (group,) = table(bench, "--group", "status", "--where", "rate=0.1", "--columns", "loss")
    assert group == {
        "status": "succeeded", "trials": 6, "left_out": 0, "loss_mean": 9.0,
        "loss_deviation": statistics.stdev([0, 2, 8, 10, 16, 18]),
    }  # fmt: skip
    (single,) = table(bench, "--group", "--where", "trial=5")
    assert single["validation_error_mean"] == 0.025 and single["validation_error_deviation"] is None
    groups = table(bench, "--group", "filters", "--sort", "seconds_mean", "--descending")
    assert [g["filters"] for g in groups] == [8, 16]
    lines = run(bench, "--group", "filters", "--best", 1, "--format", "csv").splitlines()
    assert len(lines) == 2 and lines[0].startswith("filters,trials,left_out,validation_error_mean")
    failed = table(bench, "--group", "status", "--where", "status=failed")
    assert [(g["trials"], g["left_out"], g["validation_error_mean"]) for g in failed] == [(1, 1, None)]
    said = run(bench, "--group")
    assert "4 of 4 groups of 12 trials, lowest validation_error first" in said and "left out" in said


def test_the_best_group_first_where_most_is_best(bench):
    fill(bench, {**STUDY, "direction": "maximize"})
    means = [group["validation_error_mean"] for group in table(bench, "--group")]
    assert means == sorted(means, reverse=True)


def test_groups_by_values_that_look_alike(bench):
    folder = fill(bench)
    for k, value in enumerate([1, 1.0, "1", True, "true", None, [1]]):
        put(folder, 20 + k, {"x": value, "trials": k // 2}, {"validation_error": 0.5})
    groups = table(bench, "--group", "x", "--where", "trial>=20")
    assert [(g["x"], g["trials"]) for g in groups] == [(1, 2), ("1", 1), (True, 1), ("true", 1), (None, 1), ([1], 1)]
    groups = table(bench, "--group", "trials", "--where", "trial>=20")
    assert [(g["trials"], g["trials_"]) for g in groups] == [(0, 2), (1, 2), (2, 2), (3, 1)]


# ---------------------------------------------------------------- what a user gets wrong


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["--where", "filter<50"], "--where 'filter<50': no column 'filter' (did you mean 'filters'?)"),
        (["--sort", "second"], "--sort: no column 'second' (did you mean 'seconds'?)"),
        (["--sort", ""], "--sort: no column ''"),
        (["--columns", "trial,hots"], "--columns: no column 'hots' (did you mean 'host'?)"),
        (["--columns", "trial,,host"], "--columns 'trial,,host': must be names of columns"),
        (["--columns", ""], "--columns '': must be names of columns"),
        (["--group", "rat"], "--group: no column 'rat' (did you mean 'rate'?)"),
        (["--group", "--columns", "host"], "--columns: host holds no numbers"),
        (["--group", "--sort", "seconds"], "--sort: no column 'seconds' (did you mean 'seconds_mean'?)"),
        (["--where", "filters<many"], "--where 'filters<many': filters holds numbers; 'many' is something else"),
        (["--where", "filters<nan"], "filters holds numbers; 'nan' is something else"),
        (["--where", "diverged=yes"], "diverged holds true or false; 'yes' is something else"),
        (["--where", "filters<"], "--where 'filters<': a value must follow '<'"),
        (["--where", "filters"], "--where 'filters': must be column, comparison and value"),
        (["--where", ""], "--where '': must be column, comparison and value"),
        (["--where", "<3"], "--where '<3': must be column, comparison and value"),
        (["--where", "filters!3"], "the comparison must be one of <= >= != == = < >"),
        (["--best", "-3"], "--best -3: must be at least 1"),
        (["--best", "0"], "--best 0: must be at least 1"),
        (["--descending"], "--descending: name the column with --sort COLUMN"),
        (["--format", "parquet"], "--format parquet: name the file with --out FILE"),
        (["--out", "table.txt"], "--out table.txt: choose a --format for files (csv,"),
        (["--out", "t.csv", "--format", "table"], "--out t.csv: choose a --format for files (csv,"),
        (["--out", "HERE/none/t.csv"], "HERE/none; make it first"),
        (["--out", "HERE", "--format", "csv"], "--out HERE: can't be written (Is a directory); choose another file"),
        (["--out", "HERE/toy.csv/t.csv"], "HERE/toy.csv; make it first"),
        (["--keep", "HERE/toy.csv"], "--keep HERE/toy.csv: can't be written (Not a directory)"),
        (["--keep", "kept", "--where", "filters<50"], "--where: --keep saves the whole study"),
        (["--keep", "kept", "--all"], "--all: --keep saves the whole study"),
    ],
)
def test_one_line_says_what_is_wrong(bench, arguments, wanted):
    fill(bench)
    (bench.path / "toy.csv").write_text("precious")
    before = sorted(bench.path.iterdir())
    said = run(bench, *(part.replace("HERE", str(bench.path)) for part in arguments), code=2)
    assert wanted.replace("HERE", str(bench.path)) in said
    assert sorted(bench.path.iterdir()) == before and (bench.path / "toy.csv").read_text() == "precious"


def test_an_output_that_is_full_or_closed(bench):
    fill(bench)
    command = [sys.executable, "-m", "foldertune", "results", "--logs", str(bench.logs), "--all", "--format", "csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "error: output: No space left on device\n")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_may_only_be_read(bench):
    folder = fill(bench)
    os.chmod(folder.path, stat.S_IRUSR | stat.S_IXUSR)
    command = [sys.executable, "-m", "foldertune", "results", "--logs", str(folder.path)]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "preexec_fn": respect_permissions}
    done = subprocess.run(command, **options)
    written = subprocess.run([*command, "--out", f"{folder.path}/best.csv"], **options)
    os.chmod(folder.path, stat.S_IRWXU)
    assert done.returncode == 0 and "10 of 12 trials" in done.stdout
    assert done.stderr == f"{folder.results}: can't be written (Permission denied)\n"
    assert written.returncode == 2
    assert "best.csv: can't be written (Permission denied); choose another file\n" in written.stderr


def test_a_copy_on_a_laptop_is_read_from_anywhere_without_a_trace(bench):
    """A copy has other times of files, no permissions, and another place than the search had."""
    folder, laptop, elsewhere = fill(bench), bench.path / "laptop", bench.path / "elsewhere"
    put(folder, 12, {"rate": 0.1}, None, attempt=1, state="lost")
    shutil.copytree(folder.path, laptop, copy_function=shutil.copyfile)
    shutil.rmtree(folder.path)
    elsewhere.mkdir()
    for place in (laptop, laptop / "seen"):
        os.chmod(place, stat.S_IRUSR | stat.S_IXUSR)
    before = sorted(laptop.rglob("*"))

    def say(program, *options):
        command = [sys.executable, "-m", "foldertune", program, "--logs", "../laptop", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        options = {"cwd": elsewhere, "env": environment, "capture_output": True, "text": True}
        return subprocess.run(command, preexec_fn=respect_permissions, **options)

    said = {program: say(program) for program in ("results", "status", "best", "report")}
    page = say("report", "--out", ".")
    for place in (laptop, laptop / "seen"):
        os.chmod(place, stat.S_IRWXU)
    assert "10 of 12 trials" in said["results"].stdout and "11 succeeded" in said["status"].stdout
    assert json.loads(said["best"].stdout)["rate"] == 0.1
    where = "../laptop/report: Permission denied; choose another folder with --out"
    assert said["report"].returncode == 2 and said["report"].stderr == f"error: {where}\n"
    assert page.returncode == 0 and "Best validation error" in (elsewhere / "report.html").read_text()
    assert sorted(laptop.rglob("*")) == before


# ---------------------------------------------------------------- formats


def test_files_by_their_ending(bench):
    fill(bench)
    for ending in ("csv", "json", "md", "tex"):
        assert run(bench, "--all", "--out", bench.path / f"t.{ending}") == ""
    with open(bench.path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[0]["validation_error"] == "0.0"
    assert json.loads((bench.path / "t.json").read_text())[0]["filters"] == 8
    assert (bench.path / "t.md").read_text().count("\n") == 14
    assert "\\toprule" in (bench.path / "t.tex").read_text()
    assert not list(bench.path.glob(".*"))


def test_json_is_strict_and_has_a_line_a_trial(bench):
    folder = fill(bench)
    put(folder, 20, {"rate": float("inf"), "text": "\udc80ä\x1b"}, {"validation_error": 0.0})
    with open(folder.locate(TrialName(20, 1, "seen")), "rb") as file:
        text = file.read().replace(b'"rate": null', b'"rate": 1e999')
    with open(folder.locate(TrialName(20, 1, "seen")), "wb") as file:
        file.write(text)

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    said = run(bench, "--all", "--format", "json")
    rows = json.loads(said, parse_constant=refuse)
    assert len(said.splitlines()) == len(rows) == 13 and "\x1b" not in said
    assert [row["text"] for row in rows if row["trial"] == 20] == ["\udc80ä\x1b"]
    assert [row["rate"] for row in rows if row["trial"] == 20] == [None]  # what is not finite is no value
    assert trials(bench, "rate=") == [20] and ",inf," not in folder.results.read_text()


def test_markdown_and_latex_of_odd_texts(bench):
    folder = fill(bench)
    odd = r"50% of $x_1$ & {a|b} #~^\<>" + "\n"
    put(folder, 20, {"text": odd, "a|b_c": None}, {"validation_error": 0.0})
    arguments = ("--columns", "trial,a|b_c,text", "--where", "trial=20", "--format")
    markdown = run(bench, *arguments, "markdown").splitlines()
    assert markdown[0] == r"| trial | a\|b_c | text |" and len(markdown) == 3
    assert markdown[2] == r"| 20 | null | 50% of $x_1$ & {a\|b} #~^\<>\n |"
    latex = run(bench, *arguments, "latex").splitlines()
    assert latex[0] == r"\begin{tabular}{rll}" and latex[-1] == r"\end{tabular}"
    assert latex[4].startswith(r"20 & null & 50\% of \$x\_1\$ \& \{a|b\} \#\textasciitilde{}\textasciicircum{}")
    assert latex[4].endswith(r"\\") and latex[4].count(" & ") == 2
    first = run(bench, "--columns", "text,trial", "--where", "trial=20", "--format", "latex").splitlines()[4]
    assert not first.startswith("{}")
    put(folder, 21, {"text": [64, 64]}, {"validation_error": 0.0})
    first = run(bench, "--columns", "text,trial", "--where", "trial=21", "--format", "latex").splitlines()[4]
    assert first.startswith("{}"), "LaTeX would take what is in brackets for an option of the rule above"


def test_parquet_has_one_type_a_column(bench):
    pandas = pytest.importorskip("pandas", reason=PANDAS)
    pytest.importorskip("pyarrow", reason=PYARROW)
    folder = fill(bench)
    for k, value in enumerate(["auto", 0.5, True, [1, {"a": None}], 10**19, "\udc80"]):
        put(folder, 20 + k, {"mixed": value, "large": 10**19 + k, "half \udc80": k}, {"validation_error": 0.5})
    run(bench, "--all", "--sort", "trial", "--out", bench.path / "t.parquet")
    frame = pandas.read_parquet(bench.path / "t.parquet")
    assert list(frame["trial"]) == [*range(12), *range(20, 26)]
    assert str(frame["filters"].dtype) == "Int64" and str(frame["validation_error"].dtype) == "Float64"
    assert str(frame["diverged"].dtype) == "boolean" and frame["diverged"].isna().sum() == 7
    assert list(frame["mixed"][12:]) == ["auto", "0.5", "true", '[1, {"a": null}]', str(10**19), "\\udc80"]
    assert frame["large"][12] == 1e19 and "half \\udc80" in frame.columns
    assert (frame["validation_error"][:11] == [k * k / 1000 for k in range(11)]).all()


@pytest.mark.parametrize("missing", ["pandas", "pyarrow"])
def test_without_pandas_or_pyarrow_one_line_says_so(bench, missing, monkeypatch):
    fill(bench)
    (bench.path / "absent" / missing).mkdir(parents=True)
    (bench.path / "absent" / missing / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {missing}')"
    )
    monkeypatch.setenv("PYTHONPATH", str(bench.path / "absent"))
    said = run(bench, "--out", bench.path / "t.parquet", code=2)
    assert said == "error: --format parquet: needs pandas and pyarrow: pip install pandas pyarrow\n"
    assert not (bench.path / "t.parquet").exists()
    assert run(bench, "--format", "latex") and run(bench, "--group")  # need neither


def test_load_in_a_notebook(bench, monkeypatch):
    pandas = pytest.importorskip("pandas", reason=PANDAS)
    folder = fill(bench)
    put(folder, 20, {"rate": 0.1}, {"validation_error": 0.5}, claim={"time": {"not": "a time"}})
    put(folder, 21, {"rate": 0.1}, {"validation_error": 0.5}, claim={"time": "yesterday"})
    monkeypatch.setenv("HOME", str(bench.logs.parent))
    frame = load(f"~/{bench.logs.name}")
    assert list(frame.columns) == run(bench, "--format", "csv").splitlines()[0].split(",")
    assert list(frame["trial"]) == [*range(12), 20, 21] and frame["validation_error"].dtype == "float64"
    assert frame["claimed"][3] == pandas.Timestamp("2026-01-01T00:00:03Z") and frame["claimed"][11:].isna().all()
    assert (frame["finished"] - frame["claimed"])[3] == pandas.Timedelta(minutes=10)
    assert frame.groupby("filters")["validation_error"].count().to_dict() == {8.0: 6, 16.0: 5}
    with open(folder.locate(TrialName(4, 1, "seen")), "w") as file:
        file.write("nonsense\n")
    with pytest.warns(UserWarning, match="left out: .*trial-00004-1"):
        assert len(load(str(bench.logs))) == 13
    with pytest.raises(StudyError, match="no study there"):
        load(bench.path)


def test_a_table_loses_no_digits_where_there_is_no_terminal(bench):
    folder = fill(bench)
    put(folder, 20, {f"hyperparameter_{k}": 0.12345 for k in range(12)}, {"validation_error": 0.0})
    columns = ",".join(f"hyperparameter_{k}" for k in range(12))
    assert run(bench, "--where", "trial=20", "--columns", columns).count("0.1235") == 12


# ---------------------------------------------------------------- the archive


def test_hosts_are_told_apart_by_as_much_of_their_names_as_it_takes(bench):
    bench.folder.prepare()
    bench.folder.write_study(STUDY)
    names = ["gpu.cs.edu", "gpu.bio.edu", "cpu.cs.edu"]
    for number, host in enumerate(names):
        claim = {"claimed": f"{host.split('.')[0]}-1-abcd{number}", "host": host}
        put(bench.folder, number, {"rate": 0.1}, {"validation_error": number / 10}, claim=claim)
    lines = run(bench).splitlines()
    assert [line.split()[-1] for line in lines if "gpu" in line or "cpu" in line] == [*names[:2], "cpu"]
    assert [row["host"] for row in json.loads(run(bench, "--format", "json"))] == names
    assert {host.name for host in read_results(bench.logs).hosts} == {*names[:2], "cpu"}


def fill_oddly(bench: Bench) -> Folder:
    """Everything that a folder may hold: done, failed, lost, diverged, by hand, in hand; odd names, texts and epochs."""
    folder = fill(bench)
    folder.study.write_text(json.dumps({**STUDY, "description": "κ \udc80", "fixed": {"note": "\udc80é"}}))
    put(folder, 20, {"rate": 0.1, "κ, \"λ\"\n": "\udc80ä\u2028", "host": "h", "": [1, {"x": None}]}, {"validation_error": None, "diverged": True},
        epochs=[{"epoch": 1, "loss": 1 / 3, "n": 123456789}, {"epoch": 2, "loss": None}, {"epoch": None, "loss": 2e-17 / 3},
                {"epoch": 3, "text": "x", "loss": 1.5, "fine": True}, {"epoch": 4, "loss": [1.23456789], "text": None}])  # fmt: skip
    put(
        folder,
        21,
        {"rate": 0.1},
        {"validation_error": 1 / 3, "seconds": 12345.678901},
        attempt=2,
        first={"lost": ["killed"], "timeout": 60.0},
    )
    put(folder, 21, {"rate": 0.1}, None, attempt=1, state="lost", epochs=[{"epoch": 1, "loss": 0.5}])
    with open(folder.locate(TrialName(11, 2, "lost")), "wb") as file:
        file.write(
            to_line({"settings": {"rate": 0.1}})
            + to_line({"claimed": "h-1-a"})
            + to_line({"error": "no memory", "time": "2026-01-01T00:00:00Z"})
        )
    with open(folder.locate(TrialName(22, 1, "lost")), "wb") as file:
        file.write(to_line({"settings": {}}))  # never claimed
    put(folder, 23, {"rate": 0.1}, {"validation_error": 0.5}, state="done")
    return folder


def rounded(trial):
    """A trial as an archive keeps it: the metrics of epochs are rounded to five digits."""

    def short(value):
        return float(f"{value:.5g}") if isinstance(value, float) else value

    return replace(trial, epochs=[{key: short(value) for key, value in epoch.items()} for epoch in trial.epochs])


def test_an_archive_says_what_the_folder_said(bench):
    folder = fill_oddly(bench)
    kept = bench.path / "kept" / "toy"
    assert run(bench, "--keep", kept) == f"{kept}: 14 trials, 3 lost attempts; 1 in hand are left out\n"
    assert sorted(path.name for path in kept.iterdir()) == ["results.csv", "study.json", "trials.jsonl"]
    before, after = read_results(bench.logs), read_results(kept)
    assert after.study == before.study and not after.complaints and not after.in_hand
    assert after.trials == [rounded(trial) for trial in before.trials]
    assert after.lost == [rounded(trial) for trial in before.lost]
    assert [list(epoch) for epoch in after.trials[12].epochs] == [list(epoch) for epoch in before.trials[12].epochs]
    assert after.trials[13].result == {"validation_error": 1 / 3, "seconds": 12345.678901}  # results are exact
    table = (kept / "results.csv").read_bytes()
    assert table == folder.results.read_bytes()
    (kept / "results.csv").unlink()
    shown = run(bench, "--all", "--format", "csv", logs=kept)
    assert (kept / "results.csv").read_bytes() == table and shown == run(bench, "--all", "--format", "csv")


def test_an_archive_of_a_study_that_has_just_begun(bench):
    bench.folder.prepare()
    bench.folder.write_study(STUDY)
    run(bench, "--keep", bench.path / "kept")
    assert read_results(bench.path / "kept").trials == []
    assert "no trial is counted yet" in run(bench, logs=bench.path / "kept")


def test_an_archive_is_small(bench):
    make_folder(bench.logs, 50)
    size = sum(path.stat().st_size for path in bench.folder.seen.iterdir())
    run(bench, "--keep", bench.path / "kept")
    assert (bench.path / "kept" / "trials.jsonl").stat().st_size < 0.6 * size


def test_an_archive_is_kept_up_to_date_but_never_lost(bench):
    folder, kept = fill(bench), bench.path / "kept"
    run(bench, "--keep", kept)
    (kept / ".trials.jsonl.1-00000000.tmp").write_text("of one that died")
    put(folder, 12, {"rate": 0.1}, {"validation_error": 0.5})
    run(bench, "--keep", kept)
    assert len(read_results(kept).trials) == 13
    os.unlink(folder.locate(TrialName(12, 1, "seen")))
    assert f"{kept}: keeps trial 12, which is not counted here" in run(bench, "--keep", kept, code=2)
    other = Bench(bench.path / "other")
    fill(other, {**STUDY, "seed": 1})
    said = run(other, "--keep", kept, code=2)
    assert f"{kept}: keeps another study; it differs in seed (0 in the folder, now 1)" in said
    assert len(read_results(kept).trials) == 13


def test_an_archive_knows_whether_the_study_had_ended(bench):
    """Also one that ended early; and what it was kept as before does not stay."""
    folder, kept = fill(bench, {**STUDY, "strategy": "random", "trials": 40, "repeats": 1}), bench.path / "kept"
    run(bench, "--keep", kept)
    assert not read_results(kept).complete
    (bench.logs / "end").touch()
    run(bench, "--keep", kept)
    assert read_results(kept).ended_by
    os.unlink(bench.logs / "end")
    run(bench, "--keep", kept)
    assert not read_results(kept).ended_by and not read_results(kept).complete
    folder.complete_study({})
    run(bench, "--keep", kept)
    for results in (read_results(bench.logs), read_results(kept)):
        assert results.complete and results.has_all and "nothing is left to try" in results.why_over


def test_an_archive_tells_the_same_of_what_went_wrong(bench):
    folder, kept = fill(bench), bench.path / "kept"
    name, traceback = TrialName(11, 1, "lost"), "Traceback (most recent call last):\n  no memory"
    put(folder, 11, {"rate": 0.1}, None, state="lost", epochs=[{"error": "no memory", "traceback": traceback}])
    os.utime(folder.locate(name), (1767225600 + 1200,) * 2)
    with open(folder.locate(TrialName(11, 2, "lost")), "wb") as file:
        file.write(b'{"sett')
    bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.logs, "--keep", kept))
    live, there = read_results(bench.logs), read_results(kept)
    assert len(live.lost) == 2 and not live.retried
    for fact in ("lost", "retried"):
        assert [t.name for t in getattr(there, fact)] == [t.name for t in getattr(live, fact)], fact
    told = [[(each.name, each.reason, each.traceback) for each in results.setbacks] for results in (live, there)]
    assert told[0] == told[1] and told[0][0][2] == traceback
    assert there.work.at_work == live.work.at_work and there.per_hour == live.per_hour


@pytest.mark.parametrize("place", ["live", "begun", "files", "itself", "seen"])
def test_an_archive_overwrites_nothing_else(bench, place):
    fill(bench)
    target = bench.path / "target"
    other = Folder(target)
    if place == "live":
        other.prepare()
        other.write_study({**STUDY, "seed": 1})
        (target / "trials.jsonl").write_text("")
    elif place == "begun":
        target.mkdir()
        (target / "study.json").write_text(json.dumps(STUDY))
    elif place == "files":
        target.mkdir()
        (target / "thesis.tex").write_text("precious")
    target = {"itself": bench.logs / "seen" / "..", "seen": bench.folder.seen}.get(place, target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    said = run(bench, "--keep", target, code=2)
    assert f"--keep {target}" in said and "choose another" in said.replace("choose a new folder", "choose another")
    after = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.name != "results.csv"} == before


def test_a_file_of_that_name_hides_no_search(bench):
    fill(bench)
    (bench.logs / "trials.jsonl").write_text("somebody's notes\n")
    assert len(table(bench)) == 12


@pytest.mark.parametrize(
    "spoil, wanted",
    [
        (lambda text: text[:-7], "is cut off"),
        (lambda text: "nonsense\n" + text, "line 1 is not JSON"),
        (lambda text: "[]\n" + text, "line 1 is not a JSON object"),
        (lambda text: text.replace("trial-00003-1.jsonl.seen", "trial-3"), "line 4: its 'name' must be"),
        (lambda text: text.replace('"epoch": [1, 2]', '"epoch": [1]', 1), "line 2: its learning curve is broken"),
        (lambda text: text.replace('"epochs": [', '"epochs": [7, ', 1), "line 2: its learning curve is broken"),
        (lambda text: text.replace('"claim": {', '"claim": 7, "was": {', 1), "line 1: "),
        (lambda text: text.replace('"settings"', '"sittings"', 1), "line 1: "),
        (lambda text: text.replace('"result": {', '"was": {', 1), "line 1: ends without a result"),
    ],
)
def test_a_broken_archive(bench, spoil, wanted):
    folder = fill(bench)
    put(folder, 1, {"rate": 0.1}, {"validation_error": 0.5}, epochs=[{"epoch": 1, "x": 0}, {"epoch": 2, "x": 0}])
    run(bench, "--keep", bench.path / "kept")
    path = bench.path / "kept" / "trials.jsonl"
    path.write_text(spoilt := spoil(path.read_text()))
    said = run(bench, logs=bench.path / "kept", code=2)
    assert str(path) in said and wanted in said and "make the archive again" in said
    assert path.read_text() == spoilt


@pytest.mark.parametrize("kind", ["fifo", "directory", "/dev/zero", "/nowhere/at/all"])
def test_an_archive_that_is_no_file_is_still_no_search(bench, kind):
    """Nobody waits at a FIFO or follows a link, and no master starts anew beside what is kept."""
    fill(bench)
    run(bench, "--keep", kept := bench.path / "kept")
    os.rename(kept / "trials.jsonl", bench.path / "trials.jsonl")
    if kind == "fifo":
        os.mkfifo(kept / "trials.jsonl")
    elif kind == "directory":
        (kept / "trials.jsonl").mkdir()
    else:
        (kept / "trials.jsonl").symlink_to(kind)
    before = sorted(os.listdir(kept))
    assert f"{kept}/trials.jsonl: not a regular file" in run(bench, logs=kept, code=2)
    said = bench.finish(bench.start("master.py", bench.study(), "--logs", kept, "--workers", 0), code=2)
    assert "is a kept study" in said and sorted(os.listdir(kept)) == before


def test_an_archive_spoilt_by_chance(bench):
    """An archive with any damage is read, or refused with one line."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    fill_oddly(bench)
    kept = bench.path / "kept"
    run(bench, "--keep", kept)
    lines = (kept / "trials.jsonl").read_text().split("\n")[:-1]
    values = [None, [], {}, 7, -1, 1e999, "text", True, [[]], [{}], {"a": 1}, {"a": [1]}, [{"a": 1}], 10**400]
    for _ in range(500):
        records = [json.loads(line) for line in lines]
        record = chance.choice(records)
        place = record if chance.random() < 0.6 else chance.choice([v for v in record.values() if isinstance(v, dict)])
        place[chance.choice([*place, "unknown"])] = chance.choice(values)
        (kept / "trials.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        try:
            rows = [Row.from_trial(trial) for trial in read_results(kept).trials]
        except StudyError as error:
            assert "\n" not in str(error)
        else:
            results_csv(rows)


def test_a_trial_that_stands_twice_in_an_archive_is_counted_once(bench):
    fill(bench)
    run(bench, "--keep", bench.path / "kept")
    path = bench.path / "kept" / "trials.jsonl"
    path.write_text(path.read_text() * 2)
    assert len(read_results(bench.path / "kept").trials) == 12


# ---------------------------------------------------------------- many trials


def test_many_trials_are_all_read_and_rightly(bench):
    """All trials are read correctly from the folder that bench.reading measures, so it measures a correct reading."""
    study = make_folder(bench.logs, 300)
    rows = bench.rows()
    assert [row.trial for row in rows] == list(range(300))
    assert rows == [Row.from_trial(trial) for trial in read_results(bench.logs, epochs=True).trials]
    assert all(row.settings == settings_of(study, row.trial) for row in rows)
    curves = [trial.epochs for trial in read_results(bench.logs).trials]
    assert {tuple(epoch["epoch"] for epoch in curve) for curve in curves} == {tuple(range(1, 11))}
    best = [row["validation_error"] for row in csv.DictReader(io.StringIO(run(bench, "--format", "csv")))]
    assert list(map(float, best)) == sorted(row.metrics["validation_error"] for row in rows)[:10]
    assert bench.folder.results.read_text() == results_csv(rows)


def test_help_and_tables_load_nothing_heavy():
    code = "import sys, foldertune.commands.results; print(sorted({'rich', 'numpy', 'pandas', 'pyarrow', 'statistics'} & {*sys.modules}))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"
