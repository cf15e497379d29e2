"""The documentation says what is so."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys

import pytest

from bench.training import to_markdown
from foldertune.shipped import STUDIES
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_tree_lists_every_file_and_none_that_is_not_there():
    tree = README.split("## The tree")[1].split("```")[1]
    listed, folder = set(), ""
    for line in tree.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
        listed.add(name if not line.startswith(" ") else folder + name)
    for entry in listed:
        assert (ROOT / entry).exists(), entry
    files = [*ROOT.glob("*.py"), *(p for d in ("training", "analysis") for p in (ROOT / d).glob("*.py"))]
    assert {str(f.relative_to(ROOT)) for f in files if f.name != "__init__.py"} <= listed
    assert {path.stem for path in STUDIES.glob("*.toml")} == {"quickstart", *(f"scenario{k}" for k in range(1, 7))}


def test_every_option_in_the_documentation_exists():
    programs = {"master.py": ["master.py"], "worker.py": ["worker.py"], "exercise3.py": ["exercise3.py"]}
    programs |= {f"foldertune {name}": ["-m", "foldertune", name] for name in ("results", "status", "report")}
    programs |= {"foldertune doctor": ["-m", "foldertune", "doctor"]}
    programs |= {"bench.coordination": ["-m", "bench.coordination"]}
    found = 0
    for program, command in programs.items():
        text = subprocess.check_output([sys.executable, *command, "--help"], cwd=ROOT, text=True)
        for line in README.splitlines():
            if program in line and "#" not in line.partition(program)[2].partition("--")[0]:
                for option in re.findall(r"(--[a-z-]+)", line.partition(program)[2].partition("#")[0]):
                    assert option in text, f"{program} has no {option}: {line}"
                    found += 1
    assert found > 5


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "LOG.md", "LICENSE"):
        assert (ROOT / name).read_text().strip()


@pytest.mark.parametrize("module", ["mine", "patient"])
def test_the_examples_of_an_objective_work_as_they_stand(bench, module):
    code = {text.split()[1]: text for text in re.findall(r"```(?:python|toml)\n(.*?)```", README, re.S)}
    assert len(code["mine.py"].strip().splitlines()) <= 10
    (bench.path / f"{module}.py").write_text(code[f"{module}.py"])
    (bench.path / "mine.toml").write_text(code["mine.toml"].replace("mine:train", f"{module}:train"))
    command = (ROOT / "master.py", "mine.toml", "--logs", bench.logs, "--workers", 2)
    said = bench.finish(bench.start(*command, cwd=bench.path))
    bench.assert_complete(20)
    assert "lowest loss first" in said


def test_the_figures_in_the_readme_are_those_that_were_measured():
    record = json.loads((ROOT / "bench/results/coordination.json").read_text())
    section = README.split("## What coordination costs")[1].split("##")[0]
    assert record["command"] in section and f"{record['trials']:,} trials" in section
    for rates in record["trials per second"].values():
        assert f"| {statistics.median(rates):,.0f} |" in section
    for ratio in record["ratio"].values():
        assert f"| {ratio:.1f} |" in section


def test_the_table_of_trials_an_hour_is_what_was_measured():
    record = json.loads((ROOT / "bench/results/training.json").read_text())
    section = README.split("## How fast it trains")[1].split("##")[0]
    assert to_markdown(record["raw"], record["peaks"]) in section and record["command"] in section


def test_the_seconds_of_the_start_are_what_was_measured():
    record = json.loads((ROOT / "bench/results/startup.json").read_text())
    section = README.split("## How fast it trains")[1].split("##")[0]
    medians = [
        statistics.median(each[name] for each in record["raw"]) for name in ("first claim", "import torch", "load")
    ]
    claim, imported, loaded = (f"{seconds:.2f}" for seconds in medians)
    assert f"after {claim} seconds, where importing torch alone takes {imported}" in section
    assert f"loads in {loaded}\nseconds" in section and record["command"] in section


def test_the_seconds_of_reading_are_what_was_measured():
    record = json.loads((ROOT / "bench/results/reading.json").read_text())
    section = README.split("## What reading costs")[1].split("##")[0]
    table, page = (statistics.median(each["wall"] for each in record["raw"][name]) for name in ("results", "report"))
    assert f"the table takes {table:.2f} seconds, the page {page:.1f}" in section and record["command"] in section
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
