"""The page of many kinds of studies, in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from foldertune.protocol import Folder, TrialName
from tests.conftest import Bench
from tests.pages import (
    OTHER,
    answers,
    assert_figures_are_sound,
    make,
    pictures_of,
    report,
    write_grid,
    write_other,
    write_search,
    write_trial,
)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -r requirements-dev.txt")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser: apt-get install chromium")
    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def browse(browser):
    """Opens a page, and keeps its messages and its requests to the network."""
    pages = []

    def open_page(path, **options):
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(30_000)
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url[:200]))
        page.goto(f"file://{path}")
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The folder of a page with everything that can go wrong."""
    path = tmp_path_factory.mktemp("other")
    return make(Bench(path), write_other(path / "logs"))[1]


def assert_quiet(page):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("window.hacked") is None


def column(page, table, heading):
    """The texts of a column, from top to bottom."""
    index = page.locator(f"#{table} thead th").all_inner_texts().index(heading)
    return page.locator(f"#{table} tbody tr td:nth-child({index + 1})").all_inner_texts()


def test_the_page_works_in_a_browser(other, browse):
    page = browse(other / "report.html")
    heading = page.locator("#s1-trials thead th", has_text="rate").first
    heading.get_by_role("button").click()
    there = [float(text) for text in column(page, "s1-trials", "rate")]
    assert heading.get_attribute("aria-sort") == "ascending" and there == sorted(there) and len(there) == 31
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(page, "s1-trials", "rate")] == there[::-1]
    page.locator("#s1-trials thead th", has_text="score").get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    scores = column(page, "s1-trials", "score")
    assert scores[-2:] == ["–", "–"] and [float(s) for s in scores[:-2]] == sorted(float(s) for s in scores[:-2])

    page.get_by_role("searchbox").last.fill("tanh")
    assert page.locator("#s1-trials tbody tr:visible").count() == 10
    assert page.locator("#s1-trials-tools output").inner_text() == "10 of 31 rows"
    page.get_by_role("searchbox").last.fill("")
    assert_quiet(page)


def test_a_trials_number_leads_to_its_curves(other, browse):
    page = browse(other / "report.html")
    page.locator("#s1-trial-7 a").press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").inner_text() == "Trial 7"
    assert dialog.locator("svg").count() == 3 and dialog.locator("svg path.this").count() == 3
    assert dialog.locator("svg path.other").count() == 3 and "best, trial 29" in dialog.inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function("location.hash === ''")  # the browser tells the page only after it has closed the dialog
    assert not dialog.is_visible() and page.evaluate("location.href").endswith("report.html")
    page.locator("#s1-trial-3 a").click()  # it diverged
    assert "no finite value" not in dialog.locator("svg").first.text_content() and dialog.is_visible()
    page.keyboard.press("Escape")
    page.locator("#s1-trial-30 a").click()  # it failed
    assert "It reported no epoch." in dialog.inner_text()
    assert_quiet(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anyone_can_read_it(other, browse, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -r requirements-dev.txt")
    for width in (390, 1280):
        page = browse(other / "report.html", color_scheme=scheme, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert_quiet(page)
    page.locator("#s1-trial-2 a").click()
    assert axe.Axe().run(page).violations_count == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 380) == (scheme == "light")


def test_hostile_texts_are_shown_as_texts(other, browse):
    text = (other / "report.html").read_text()
    assert "<img src=x" not in text and "49" not in text.split("7*7")[1][:4] and "\x1b" not in text
    page = browse(other / "report.html")
    shown = page.locator("#s1-trials")
    assert all(text.count("<img src=x onerror") == 2 for text in shown.locator("#s1-trial-2").all_inner_texts())
    shown.locator("#s1-trial-2 a").click()
    assert "<img src=x onerror" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert "<img src=x onerror" in page.get_by_role("region", name="Failures and lost attempts").inner_text()
    assert page.locator("img[src=x]").count() == 0 and page.locator("script:not([type])").count() == 1
    assert_quiet(page)
    assert_figures_are_sound(other, least=6)


def test_the_command_can_be_copied_and_works(bench, browse):
    _, out = make(
        bench, write_grid(bench.path / "logs", "scenario1", lambda s, k: 0.1 + k / 100 + abs(s["learning_rate"] - 0.2))
    )
    page = browse(out / "report.html")
    command = page.locator("#s1-command").inner_text()
    page.get_by_role("button", name="Copy").click()
    page.locator(".command output:not(:empty)").wait_for()
    assert page.locator(".command output").inner_text() in ("copied", "selected: Ctrl-C copies")
    assert command.startswith("python exercise3.py --learning-rate 0.2 --seed ") and "--batch-size 500" in command
    assert "validation error" in bench.finish(bench.start(*command.split()[1:], "--epochs", "1"))
    assert_quiet(page)


def test_a_study_of_ones_own(other):
    page = (other / "report.html").read_text()
    said = answers(page)
    assert any(a.startswith("Best score: 0.967 in trial 29, with rate ") for a in said)
    assert any(a.startswith("One at a time, by their share of the variance") for a in said)
    assert "1 trial failed: no attempt ended with a result; the reasons are below." in said
    assert any(a.startswith("1 attempt was lost and tried again") for a in said)
    assert "31 of 40 trials have ended; 1 in hand." in page
    for figure in (
        "learning-curves",
        "best-so-far",
        "hyperparameters",
        "parallel-coordinates",
        "importance",
        "pair",
        "timeline",
    ):
        assert (other / f"{figure}.png").exists() and f'id="s1-{figure}"' in page
    assert "echo &#39;{" in page and "trial-90001-1.jsonl" in page
    assert_figures_are_sound(other, least=7)
    table = page.partition('<table id="s1-search"')[2].partition("</table>")[0]
    defined = dict(re.findall(r"<tr><td>(.*?)</td><td[^>]*>(.*?)</td></tr>", table))
    assert defined["direction"] == "maximize" and defined["budget"] == "40 trials" and "space.rate" in defined, defined


def test_just_begun(bench):
    folder = Folder(bench.path / "logs")
    folder.prepare()
    folder.write_study(OTHER)
    page, _ = make(bench, folder.path)
    assert any("not enough data" in a for a in answers(page)) and "0 of 40 trials have ended." in page


def test_columns_of_the_same_name_keep_their_own_values(bench, browse):
    folder = Folder(bench.path / "logs")
    folder.prepare()
    space = {"epochs": {"type": "int", "low": 1, "high": 90}, "status": ["a", "b"], "depth": [1, 3]}
    folder.write_study({**OTHER, "fixed": {}, "space": space})
    settings = {"epochs": 13, "status": "b", "depth": 3}
    write_trial(folder, TrialName(0, 1, "seen"), settings, [1.0, 0.5], {"score": 0.5, "depth": 77})
    page = browse(make(bench, folder.path)[1] / "report.html")
    found = {name: column(page, "s1-trials", name) for name in ("epochs", "epochs trained", "setting status", "depth")}
    assert found == {"epochs": ["13"], "epochs trained": ["2"], "setting status": ["b"], "depth": ["3"]}


def test_a_hundred_workers_and_a_lost_attempt(bench):
    logs = write_search(bench.path / "logs", 100, trials=120, name="mine")
    folder = Folder(logs)
    write_trial(folder, TrialName(7, 1, "lost"), {}, [1.0], None, "zzz-1-abcd", 50)
    (timeline,) = (picture for picture in pictures_of(logs) if picture.name == "timeline")
    (axes,) = timeline.draw().axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 60 and "zzz-1-abcd" in labels
    assert "; 60 of 101 workers, first those that lost an attempt" in timeline.caption


def test_one_trial(bench):
    page, out = make(bench, write_other(bench.path / "logs", trials=1))
    assert any(a.startswith("Best score: 0 in trial 0") for a in answers(page))
    assert_figures_are_sound(out)


def test_all_failed(bench):
    folder = Folder(bench.path / "logs")
    folder.prepare()
    folder.write_study(OTHER)
    for k in range(12):
        folder.record_failure(TrialName(k, 3), {"rate": 0.1, "width": k, "kind": "relu"}, ["no GPU"] * 3)
    page, _ = make(bench, folder.path)
    assert any("not enough data" in a for a in answers(page)) and page.count("no GPU") == 12
    assert "12 trials failed" in page


def test_equal_results_and_a_single_value(bench):
    folder = Folder(bench.path / "logs")
    folder.prepare()
    folder.write_study(OTHER)
    for k in range(12):
        write_trial(folder, TrialName(k, 1, "seen"), {"rate": 0.1, "width": 3, "kind": "relu"}, [1.0], {"score": 0.5})
    _, out = make(bench, folder.path)
    assert_figures_are_sound(out, least=2)


def test_the_same_data_make_the_same_page(bench):
    """In two processes, because each has its own order of sets."""
    logs = write_other(bench.path / "logs", trials=7)
    pages = []
    for _ in range(2):
        command = ("-m", "analysis.report", "--logs", logs, "--out", bench.path / "page")
        assert bench.finish(bench.start(*command)) == f"{bench.path}/page/report.html\n"
        pages.append({path.name: path.read_bytes() for path in (bench.path / "page").iterdir()})
    assert pages[0] == pages[1] and len(pages[0]) > 9


def test_a_broken_file_is_named_and_left_out(bench):
    logs = write_other(bench.path / "logs", trials=7)
    path = Folder(logs).locate(TrialName(4, 1, "seen"))
    with open(path, "w") as file:
        file.write("nonsense\n")
    _, said = report("--logs", logs, "--out", bench.path / "page")
    assert f"left out: {path}: line 1 is not JSON" in said
    assert any("1 file could not be read" in a for a in answers((bench.path / "page/report.html").read_text()))


def test_it_lies_in_the_folder_if_nothing_else_is_said(bench):
    write_other(bench.logs, trials=2)
    assert report("--logs", bench.logs) == (0, f"{bench.logs}/report/report.html\n")


def test_what_cant_be_done_is_said_in_a_line(bench):
    said, _ = make(bench, bench.path / "nowhere", code=2)
    assert "no study there" in said and said.count("\n") == 1
    blocked = bench.path / "file"
    blocked.write_text("")
    said, _ = make(bench, write_other(bench.path / "logs", trials=1), out=blocked, code=2)
    assert str(blocked) in said and "--out" in said and said.count("\n") == 1


RICH = {
    **OTHER,
    "metrics": {"score": {"label": "hit rate", "unit": "%"}, "seconds": {"label": "time", "unit": "s"}},
    "derived": {
        "area": {"value": "rate * width", "label": "area R·W"},
        "miss": {"value": "1 - score", "unit": "%"},
        "unknown": "rate * nobody",
    },
}


def table_of(page, id):
    """The headings of a table, and its rows: for each heading, the class and the text of the cell."""
    table = page.split(f'<table id="{id}"')[1].split("</table>")[0]
    headings = re.findall(r'<th scope="col"( class="n")?><button type="button">(.*?)</button>', table)
    rows = [re.findall(r"<td([^>]*)>(.*?)</td>", row) for row in table.split("<tbody>")[1].split("</tr>")[:-1]]
    names = [name for _, name in headings]
    return {name: kind for kind, name in headings}, [dict(zip(names, row, strict=True)) for row in rows]


def test_shares_are_in_per_cent_and_derived_quantities_are_columns(bench):
    logs = write_other(bench.path / "logs", trials=7)
    Folder(logs).study.write_text(json.dumps(RICH))
    page, _ = make(bench, logs)
    headings, rows = table_of(page, "s1-trials")
    assert {"hit rate", "area R·W", "miss", "time (s)", "epochs trained"} <= headings.keys()
    assert "unknown" not in headings  # it has no value anywhere
    best, failed = rows[0], rows[-1]
    assert best["hit rate"][1] == "85.71 %" and best["miss"][1] == "14.29 %" and best["time (s)"][1] == "30"
    assert failed["status"][1] == "failed" and failed["hit rate"][1] == "–"
    for name in ("hit rate", "area R·W", "miss", "time (s)", "rate"):
        assert headings[name] == ' class="n"' and all(row[name][0].startswith(' class="n"') for row in rows), name
    assert headings["status"] == "" and best["worker"][0] == ""
    assert "Best hit rate: 85.71 % in trial 6" in page


def test_the_command_that_queues_the_best_again_works_on_any_machine(bench):
    logs = write_other(bench.path / "logs", trials=4)
    queued = TrialName(90_001, 1)
    Folder(logs).publish(queued, {"rate": 0.1, "width": 1, "kind": "relu"}, lease=180)
    page, _ = make(bench, logs)
    command = html.unescape(re.search(r'id="s1-command">(.*?)</pre>', page)[1])
    assert (
        command.startswith("echo '{") and command.endswith("> trial-90002-1.jsonl") and str(bench.path) not in command
    )
    subprocess.run(["bash", "-c", command], cwd=logs, check=True)
    assert Folder(logs).read(TrialName(90_002, 1)).settings["width"] == 3  # trial 2: the last one has no score


def test_any_study_has_its_page_without_the_exercise(bench):
    logs = write_other(bench.path / "logs", trials=7)
    one, _ = make(bench, logs)
    out = bench.path / "other"
    bench.finish(bench.start("-m", "foldertune", "report", "--logs", logs, "--out", out))
    other = (out / "report.html").read_text()
    assert re.sub(r"<code>.*?</code>", "", one) == re.sub(r"<code>.*?</code>", "", other)
    assert f"Made with <code>python -m foldertune report --logs {logs} --out {out}</code>" in other


def test_a_missing_library_is_one_line_with_the_command_that_installs_it(bench):
    logs = write_other(bench.path / "logs", trials=1)
    without = (
        "import importlib.util as util, sys; find = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'jinja2' else find(name, *rest);"
        f"from foldertune.cli import run; sys.exit(run('report', ['--logs', {str(logs)!r}]))"
    )
    said = bench.finish(bench.start("-c", without), code=2)
    assert said == "error: jinja2 is not installed; install it with: pip install 'foldertune[report]'\n"
    assert not (logs / "report").exists()
