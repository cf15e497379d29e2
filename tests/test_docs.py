"""The documentation is true: its commands run, its examples work, its links and its tree exist."""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys

import pytest

from bench import gpu, replay
from bench.precision import compare
from bench.replay import ROWS, SEEDS, VERSION
from bench.training import to_markdown
from foldertune.cli import COMMANDS
from foldertune.protocol import DEFAULT_LEASE, TrialName
from foldertune.shipped import STUDIES
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
SPEED = (ROOT / "docs" / "speed.md").read_text()
OBJECTIVES = (ROOT / "docs" / "objectives.md").read_text()
FILESYSTEMS = (ROOT / "docs" / "filesystems.md").read_text()


DOCS = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
PROGRAMS = {
    **{f"{name}.py": [f"{name}.py"] for name in ("master", "worker", "exercise3")},
    **{f"foldertune {name}": ["-m", "foldertune", *name.split()] for name in COMMANDS},
    **{f"-m {name}": ["-m", name] for name in ("analysis.report", "bench.coordination", "bench.reading", "bench.gpu")},
}


def listed_in_the_tree():
    """The files and folders that README's tree names, as paths from the root."""
    folder, paths = "", set()
    for line in README.split("## The tree")[1].split("```")[1].strip("\n").splitlines():
        indent = len(line) - len(line.lstrip())
        names = [name for name in re.split(r" {2,}", line.strip()) if name.endswith((".py", "/"))]
        if indent == 0 and names and names[0].endswith("/"):
            folder, inner = names[0], ""
        elif indent == 0:
            folder, inner = "", ""
        elif indent == 2 and names[0].endswith("/"):
            inner = names[0]
        for name in names:
            place = folder + (inner if indent == 4 else "") if indent else ""
            paths.add(place + name)
    return paths


def test_the_tree_names_what_is_there_and_all_of_it():
    listed = listed_in_the_tree()
    assert [path for path in listed if not (ROOT / path).exists()] == []
    package = ROOT / "foldertune"
    wanted = [*ROOT.glob("*.py"), *package.glob("*.py"), *(package / "protocol").glob("*.py")]
    wanted += [path for path in (*ROOT.iterdir(), *package.iterdir()) if path.is_dir() and path.name[0] not in "._"]
    names = {f"{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in wanted if not path.name.startswith("__")}
    assert names - listed <= {"data/", "dist/", "build/"}, names - listed


def test_the_studies_are_those_that_are_told_of():
    assert {path.stem for path in STUDIES.glob("*.toml")} == {
        "quickstart",
        "scenario5-auto",
        *(f"scenario{k}" for k in range(1, 7)),
    }


def test_no_text_holds_the_marks_of_a_merge():
    for path in (*DOCS, *ROOT.glob("*.md"), *ROOT.glob("*.txt"), *ROOT.glob("*.toml"), ROOT / "Makefile"):
        assert not re.search(r"^(<{7} |={7}$|>{7} )", path.read_text(), re.MULTILINE), path


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_every_option_in_the_documentation_exists():
    found = 0
    for program, command in PROGRAMS.items():
        text = subprocess.check_output([sys.executable, *command, "--help"], cwd=ROOT, text=True)
        for path, line in ((path, line) for path, words in DOCS.items() for line in words.splitlines()):
            if program not in line:
                continue
            own = re.sub(r"'[^']*'", "", re.split(r" #|`", line.partition(program)[2])[0])  # without a command's own
            for option in re.findall(r"(?<!\S)(--[a-z-]+)", own):
                assert option in text, f"{path.name}: {program} has no {option}: {line}"
                found += 1
    assert found > 15


def test_every_command_is_documented():
    assert [name for name in COMMANDS if f"foldertune {name}" not in README and f"{name}.py" not in README] == []


def test_the_tests_that_the_documentation_names_are_there():
    named = [name for text in DOCS.values() for name in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", text)]
    for name in named:
        file, _, function = name.partition("::")
        assert (ROOT / file).is_file() and f"def {function}" in (ROOT / file).read_text(), name
    assert len(named) > 30


def test_links_and_pictures_are_there():
    for path, text in DOCS.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (path.parent / target).exists(), f"{path.name}: {target}"
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "LOG.md", "LICENSE"):
        assert (ROOT / name).read_text().strip()


def test_each_filesystem_has_a_section_with_its_sources_and_a_lease():
    table = re.findall(r"^\| \[.+?\]\(#(.+?)\) \|.*\| (\d+) s.* \|$", FILESYSTEMS, re.M)
    sections = {}
    for text in FILESYSTEMS.split("\n## ")[1:]:
        title = text.partition("\n")[0].lower().replace(" ", "-")
        sections[re.sub(r"[^\w-]", "", title)] = " ".join(text.split())
    assert len(table) == 9
    for anchor, lease in table:
        assert int(lease) == DEFAULT_LEASE and f"**Lease**: {lease} s" in sections[anchor], anchor
        assert "](http" in sections[anchor], anchor


def test_the_example_of_a_command_works_as_it_stands(bench):
    code = {text.split()[1]: text for text in re.findall(r"```(?:sh|toml)\n(.*?)```", OBJECTIVES, re.S)}
    for name in ("train.sh", "script.toml"):
        (bench.path / name).write_text(code[name])
    words = ("--command", re.search(r"--command '(sh [^']*)'", OBJECTIVES)[1])
    said = bench.finish(bench.start(ROOT / "master.py", "script.toml", "--logs", bench.logs, *words, cwd=bench.path))
    bench.assert_complete(20)
    assert "lowest loss first" in said and len(bench.folder.read(TrialName(3, 1, "seen")).epochs) == 10


@pytest.mark.parametrize("module", ["mine", "patient"])
def test_the_examples_of_an_objective_work_as_they_stand(bench, module):
    code = {text.split()[1]: text for text in re.findall(r"```(?:python|toml)\n(.*?)```", OBJECTIVES, re.S)}
    assert len(code["mine.py"].strip().splitlines()) <= 10
    (bench.path / f"{module}.py").write_text(code[f"{module}.py"])
    (bench.path / "mine.toml").write_text(code["mine.toml"].replace("mine:train", f"{module}:train"))
    command = (ROOT / "master.py", "mine.toml", "--logs", bench.logs, "--workers", 2)
    said = bench.finish(bench.start(*command, cwd=bench.path))
    bench.assert_complete(20)
    assert "lowest loss first" in said


def test_the_described_study_works_as_it_stands_and_so_does_the_notebook_line(bench):
    code = {text.split()[1]: text for text in re.findall(r"```(?:python|toml)\n(.*?)```", OBJECTIVES, re.S)}
    for name in ("mine.py", "richer.toml"):
        (bench.path / name).write_text(code[name])
    command = (ROOT / "master.py", "richer.toml", "--logs", bench.logs, "--workers", 2)
    bench.finish(bench.start(*command, cwd=bench.path))
    line = re.search(r"`(from foldertune import load; load\(\"[^`]*\"\))`", README)[1].replace(
        "/shared/me/lr", str(bench.logs)
    )
    said = bench.finish(bench.start("-c", line.replace("; load", "; print(load") + "['step'].notna().sum())"))
    assert said == "20\n"


def test_the_figures_in_the_readme_are_those_that_were_measured():
    record = json.loads((ROOT / "bench/results/coordination.json").read_text())
    section = SPEED.split("## The cost of coordination")[1].split("##")[0]
    assert record["command"] in section and f"{record['trials']:,} trials" in section
    for rates in record["trials per second"].values():
        assert f"| {statistics.median(rates):,.0f} |" in section
    for ratio in record["ratio"].values():
        assert f"| {ratio:.2f} |" in section


@pytest.mark.parametrize("volume", ["spread", "copied"])
def test_the_figures_of_glusterfs_are_those_that_were_measured(volume):
    record = json.loads((ROOT / f"bench/results/coordination-glusterfs-{volume}.json").read_text())
    section = DOCS[ROOT / "docs" / "filesystems.md"].split("## GlusterFS")[1].split("### What the documents say")[0]
    assert f"{record['command']} --dir DIR --trials {record['trials']}" in section
    for side in ("ours", "optuna", "rustuna"):
        one, eight = (statistics.median(record["trials per second"][f"{side}, {workers}"]) for workers in (1, 8))
        assert f"| {one:.1f} | {eight:.1f} |" in section


def milliseconds(seconds):
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def test_the_figures_of_the_artificial_loss_are_those_that_were_measured():
    record = json.loads((ROOT / "bench/results/replay-artificial.json").read_text())
    section = DOCS[ROOT / "docs" / "savings.md"].split("## When short trainings mislead")[1].split("\n## ")[0]
    assert f"`{record['command']}`" in section
    for method, first, last in (("random", "whole trainings", "40"), ("hyperband", "as many epochs", "as many epochs")):
        courses = [course for course in record["courses"] if course["method"] == method and not course["noise"]]
        assert [course["shift"] for course in courses] == [0, 0.2, 0.4, 0.8]
        for share, words in ((4, first), (1, last)):
            medians = [course["quartiles"][len(record["epochs"]) // share - 1][1] for course in courses]
            assert f"{words} | {' | '.join(f'{median:.3f}' for median in medians)} |" in section


def test_the_figures_of_the_tables_are_those_that_were_measured():
    section = DOCS[ROOT / "docs" / "savings.md"].split("## How much they save")[1].split("\n## ")[0]
    record = json.loads((ROOT / "bench/results/replay-tables.json").read_text())
    assert f"    {record['command']}\n" in section
    for each in record["searches"]:
        assert each["version"] == VERSION and len(each["shares"]) == SEEDS[each["trainings"]]
        assert each["rows"] == ROWS[each["trainings"]] >= 10 * each["trainings"]
        assert f"{each['rows']:,} " in section
    assert {each["trainings"] for each in record["searches"]} == set(SEEDS)
    for name in ("narrow", "wide"):
        target = next(
            each["target"] for each in record["searches"] if (each["table"], each["trainings"]) == (name, 120)
        )
        lucky = sum(curve[-1] <= target for curve in replay.Table.read(name, ROWS[120]).curves)
        assert re.search(rf"\b{lucky} of the ({ROWS[120]:,} )?{name}", section)
    for table in replay.to_markdown(record["searches"]):
        assert f"\n\n{table}\n\n" in section


def test_the_headline_is_what_was_measured():
    record = json.loads((ROOT / "bench/results/headline.json").read_text())
    shown = {}
    for kind in ("random", "hyperband", "auto"):
        courses = [each["course"] for each in record["searches"] if each["kind"] == kind]
        assert len(courses) == (10 if kind == "auto" else 3)
        shown[kind] = courses
    target = statistics.median(course[-1][1] for course in shown["random"])
    text = DOCS[ROOT / "README.md"]
    assert f"`{record['command']}`" in text and f"after {record['trainings']} whole trainings" in text
    for courses in shown.values():
        reached = sorted(
            next((seconds / 60 for seconds, loss in course if loss <= target), math.inf) for course in courses
        )
        told = ["never" if math.isinf(each) else f"{each:.1f}" for each in reached]
        searches = ", ".join(told) if len(told) == 3 else f"{told[0]} to {told[-1]} (ten searches)"
        middle = statistics.median(reached)
        assert f"| {searches} | {'never' if math.isinf(middle) else f'{middle:.1f}'} |" in text


def test_the_figures_of_strategies_are_those_that_were_measured():
    text = DOCS[ROOT / "docs" / "savings.md"]
    foreign, asking = (
        json.loads((ROOT / f"bench/results/strategies-{what}.json").read_text()) for what in ("foreign", "asking")
    )
    assert foreign["command"] in text
    for name, table in foreign["tables"].items():
        medians = (f"{statistics.median(table[side]):.4g}" for side in ("ours", "optuna"))
        assert f"| {name} | {' | '.join(medians)} | {table['p']:.2f} |" in text
        assert table["p"] > 0.05, "they differ, and the text says that they do not"
    memory = json.loads((ROOT / "bench/results/strategies-memory.json").read_text())
    assert f"{memory['MiB']['10000']} MiB of memory (`{memory['command']}`)" in text
    sizes = asking["seconds"]["tpe"]
    for name, seconds in asking["seconds"].items():
        cells = (milliseconds(seconds[size]) if size in seconds else "" for size in sizes)
        assert f"| `{name}` | {' | '.join(cells)} |" in text


def test_the_tables_of_the_thousand_workers_are_what_was_counted():
    section = DOCS[ROOT / "docs" / "cluster.md"].split("## A thousand workers")[1]
    names = "operations", "operations-moosefs", "crowd", "crowd-hour", "crowd-check"
    counted, moosefs, crowd, hour, check = (
        json.loads((ROOT / f"bench/results/{name}.json").read_text()) for name in names
    )
    assert all(record["command"] in section for record in (counted, moosefs, crowd, check))
    for what, numbers in (*counted["operations"].items(), *moosefs["operations"].items()):
        assert f"| {what} | {' | '.join(f'{max(number, 0):g}' for number in numbers.values())} |" in section
    for each in (*crowd["searches"], *hour["searches"]):
        words = f"{each['lasts']:g} | "
        if "gap" in each:
            words += (
                f"{each['gap']:.3f} s | {each['gap of the slowest of a hundred']:.3f} s | {each['lost claims']:.2f}"
            )
        else:
            words = "all but one wait | | |"
        assert f"| {each['workers']:,} | {words} | {each['calls a second']:,.0f} |" in section
    for each in check["searches"]:
        assert f"{each['gap']:.3f} s" in section and f"{each['gap of the slowest of a hundred']:.3f} s" in section
        assert each["lost claims"] == 0


def test_the_figures_of_a_gpu_are_what_was_measured():
    record = json.loads((ROOT / "bench/results/gpu.json").read_text())
    section = SPEED.split("## GPUs")[1].split("\n## ")[0]
    assert record["command"] in section and record["machine"]["gpu"] in section
    assert all(figures.get("ok", True) for figures in record["figures"].values())
    for line in gpu.to_markdown(record["figures"]):
        assert line in section, line
    per_hour = [
        [
            1 / (each["start seconds"] + gpu.EPOCHS * each["epoch seconds"])
            for each in (sides["stock"], sides["bfloat16"])
        ]
        for sides in record["figures"]["stock recipe and ours"].values()
    ]
    ratios = [ours / stock for stock, ours in per_hour]
    assert f"{min(ratios):.0f} to {max(ratios):.0f} times on an H200" in README
    runs = json.loads((ROOT / "bench/results/precision-gpu.json").read_text())["runs"]
    for name in runs:
        for line in compare(name, runs[name]):
            assert line.replace("_", " ") in DOCS[ROOT / "docs" / "precision.md"], line


def test_the_table_of_trials_an_hour_is_what_was_measured():
    record = json.loads((ROOT / "bench/results/training.json").read_text())
    section = SPEED.split("## The speed of training")[1].split("##")[0]
    assert to_markdown(record["raw"], record["peaks"]) in section and record["command"] in section


def test_the_seconds_of_the_start_are_what_was_measured():
    record = json.loads((ROOT / "bench/results/startup.json").read_text())
    section = SPEED.split("## The speed of training")[1].split("##")[0]
    medians = [
        statistics.median(each[name] for each in record["raw"]) for name in ("first claim", "import torch", "load")
    ]
    claim, imported, loaded = (f"{seconds:.2f}" for seconds in medians)
    assert f"after {claim} seconds; importing torch alone takes {imported}" in section
    assert f"loads in {loaded}\nseconds" in section and record["command"] in section


def test_the_seconds_of_reading_are_what_was_measured():
    record = json.loads((ROOT / "bench/results/reading.json").read_text())
    section = SPEED.split("## The cost of reading")[1].split("##")[0]
    table, page = (statistics.median(each["wall"] for each in record["raw"][name]) for name in ("results", "report"))
    assert f"the table takes {table:.2f} seconds and the page {page:.1f}" in section and record["command"] in section
    assert f"{record['trials']:,} trials" in section


def test_the_format_of_a_study_is_explained_by_one_that_loads():
    text = (STUDIES / "quickstart.toml").read_text()
    for key in ("strategy", "trials", "seed", "metric", "direction", "objective", "repeats", "description"):
        assert re.search(rf"^(# )?{key} = .+", text, re.M), key


def test_make_names_its_targets():
    try:
        said = subprocess.check_output(["make", "help"], cwd=ROOT, text=True)
    except FileNotFoundError:
        pytest.skip("make is not installed: apt-get install make")
    for target in ("search", "test", "check", "bench"):
        assert f"make {target} " in said and f"`make {target}`" in (ROOT / "CHANGELOG.md").read_text()
