"""The page: in a real browser, from many kinds of studies; its sentences follow the data."""

from __future__ import annotations

import html
import itertools
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from analysis.scenarios import find
from foldertune.protocol import Folder, TrialName, to_line
from foldertune.reading.page import read_all
from foldertune.strategies import load
from tests.conftest import settings_of

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'{{7*7}}$x_{\u202e\x1b[2J"
OTHER = {
    "name": "other", "objective": "mine:train", "strategy": "random", "trials": 40, "metric": "score",
    "direction": "maximize", "fixed": {"epochs": 3},
    "space": {
        "rate": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "width": {"type": "int", "low": 1, "high": 64},
        "kind": ["relu", "tanh", HOSTILE],
    },
}  # fmt: skip


def write_trial(folder, name, settings, losses, result, worker="gpu01-7-abcd", start=0, seconds=None, error=None):
    """A trial's file as a worker leaves it: `losses` after each epoch, times from `start` in seconds of the day."""
    seconds = 10.0 * max(len(losses), 1) if seconds is None else seconds
    lines = [{"settings": settings}, {"claimed": worker, "host": worker.split("-")[0], "time": stamp(start)}]
    for k, loss in enumerate(losses, start=1):
        accuracy = None if loss is None else max(0.1, 1 - loss / 10)
        lines.append({"epoch": k, "seconds": seconds * k / len(losses), "training_loss": loss, "validation_loss": loss,
                      "validation_accuracy": accuracy})  # fmt: skip
    if result is not None:
        lines.append({"result": {"seconds": seconds, **result}, "time": stamp(start + seconds)})
    if error is not None:
        lines.append({"error": error, "time": stamp(start + seconds)})
    with open(folder.locate(name), "wb") as file:
        file.write(b"".join(map(to_line, lines)))


def stamp(seconds):
    whole = int(seconds)
    return f"2026-01-01T{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{int(seconds % 1 * 1000):03d}Z"


def write_grid(path, scenario, loss, seconds=lambda settings: 30.0, repeats=3, collapsed=lambda settings: False):
    """A finished grid of a scenario whose final training loss is `loss(settings, repeat)`."""
    folder, study = Folder(path), load(scenario, repeats=repeats)
    folder.prepare()
    folder.write_study(study.to_record())
    for k in range(study.trials):
        settings = settings_of(study, k)
        bad = collapsed(settings)
        final = 2.303 if bad else loss(settings, k * repeats // study.trials)
        losses = [2.303 if bad else 2.3 * (final / 2.3) ** (e / 10) for e in range(1, 11)]
        error = 0.9 if bad else final / 10
        result = {"validation_error": error, "training_loss": final, "diverged": bad}
        spent = seconds(settings)
        write_trial(folder, TrialName(k, 1, "seen"), settings, losses, result, start=k * 100, seconds=spent)
    folder.complete_study()
    return path


def write_search(path, workers, trials=24, name="scenario5", slow=1.0):
    """A random search of scenario 5 in which the effective rate decides, by so many workers at once."""
    folder, study = Folder(path), load("scenario5", trials=trials)
    folder.prepare()
    folder.write_study({**study.to_record(), "name": name})
    free = [0.0] * workers
    for k in range(trials):
        settings = settings_of(study, k)
        rate = settings["learning_rate"] / (1 - settings["momentum"])
        error = 0.9 if rate > 0.8 else 0.01 + 0.02 * abs(math.log(rate / 0.1))
        worker = min(range(workers), key=lambda w: free[w])
        seconds = slow * (20.0 + settings["filters"])
        result = {"validation_error": error, "test_accuracy": 1 - error, "diverged": rate > 0.8}
        losses = [2.3, 1.0, max(error, 0.01)]
        owner = f"host{worker % 2}-{worker}-abcd"
        write_trial(folder, TrialName(k, 1, "seen"), settings, losses, result, owner, free[worker], seconds)
        free[worker] += seconds
    return path


def write_other(path, trials=30):
    """A study of another objective, with all that can go wrong: lost, failed, diverged, running, hostile texts."""
    folder = Folder(path)
    folder.prepare()
    folder.write_study(OTHER)
    kinds = itertools.cycle(OTHER["space"]["kind"])
    for k in range(trials):
        settings = {"rate": 0.001 * 1.2**k, "width": 1 + k, "kind": next(kinds), "seed": k, "epochs": 3}
        result = {"score": None if k == 3 else k / trials, "note": HOSTILE}
        losses = [2.0, None if k == 3 else 1.0, None if k == 3 else 0.5 / (k + 1)]
        worker = HOSTILE if k == 2 else f"h{k % 3}-1-abcd"
        write_trial(folder, TrialName(k, 2 if k == 5 else 1, "seen"), settings, losses, result, worker, 40 * k)
    write_trial(folder, TrialName(5, 1, "lost"), settings, [2.0], None, "h0-9-abcd", 10, error=HOSTILE)
    folder.record_failure(TrialName(trials, 3), {**settings, "kind": HOSTILE}, [HOSTILE] * 3)
    running = TrialName(trials + 1, 1, "taken", "h1-2-abcd")
    write_trial(folder, running, settings, [1.5], None, "h1-2-abcd", 1000)
    return path


def make(bench, *logs, code=0, out=None):
    """Make the page; its text, and where it is."""
    out = out or bench.path / "page"
    said = bench.finish(bench.start("-m", "analysis.report", "--logs", *logs, "--out", out), code)
    if code:
        return said, out
    assert said.splitlines()[-1] == f"{out}/report.html"
    return (out / "report.html").read_text(), out


def said_of(*logs):
    """The sentences about these studies, and every figure drawn once, without a page or a process of its own."""
    searches = dict(read_all(logs).values())
    found = [find(search, searches) for search in searches.values()]
    for findings in found:
        for picture in findings.pictures:
            shown = [axes for axes in picture.draw().axes if axes.get_visible()]
            assert shown and all(axes.has_data() for axes in shown), picture.name
    return [answer for findings in found for answer in findings.answers]


def answers(page):
    """What the data say, one text a sentence."""
    main = page.split('<main id="main">')[1]
    return [
        html.unescape(text)
        for text in re.findall(r"<li>(.*?)</li>|<strong>(.*?)</strong>", main, re.S)
        for text in text
        if text
    ]


def assert_figures_are_sound(out, least=1):
    import matplotlib.image

    pictures = sorted(out.glob("*.png"))
    assert len(pictures) >= least
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert min(pixels.shape[:2]) > 200 and pixels.std() > 0.01, picture
        drawing = picture.with_suffix(".svg")
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(drawing).iter()}
        assert "path" in tags and not {"script", "foreignObject", "a"} & tags, drawing


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def browse():
    """Opens a page in Debian's Chromium; whatever it says, or asks of the network, is kept."""
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

        def open_page(path, **options):
            page = browser.new_page(**options)
            page.set_default_timeout(30_000)
            page.said, page.asked = [], []
            page.on("console", lambda message: page.said.append(message.text))
            page.on("pageerror", lambda error: page.said.append(str(error)))
            page.on("request", lambda request: page.asked.append(request.url[:200]))
            page.goto(f"file://{path}")
            return page

        yield open_page
        browser.close()


def assert_quiet(page):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("window.hacked") is None


def column(page, table, heading):
    """The texts of a column, from top to bottom."""
    index = page.locator(f"#{table} thead th").all_inner_texts().index(heading)
    return page.locator(f"#{table} tbody tr td:nth-child({index + 1})").all_inner_texts()


def test_the_page_works_in_a_browser(bench, browse):
    page = browse(make(bench, write_other(bench.path / "logs"))[1] / "report.html")
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


def test_a_trials_number_leads_to_its_curves(bench, browse):
    page = browse(make(bench, write_other(bench.path / "logs"))[1] / "report.html")
    page.locator("#s1-trial-7 a").press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").inner_text() == "Trial 7"
    assert dialog.locator("svg").count() == 3 and dialog.locator("svg path.this").count() == 3
    assert dialog.locator("svg path.other").count() == 3 and "best, trial 29" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible() and page.url.endswith("report.html")
    page.locator("#s1-trial-3 a").click()  # it diverged
    assert "no finite value" not in dialog.locator("svg").first.text_content() and dialog.is_visible()
    page.keyboard.press("Escape")
    page.locator("#s1-trial-30 a").click()  # it failed
    assert "It reported no epoch." in dialog.inner_text()
    assert_quiet(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anyone_can_read_it(bench, browse, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -r requirements-dev.txt")
    _, out = make(bench, write_other(bench.path / "logs"))
    for width in (390, 1280):
        page = browse(out / "report.html", color_scheme=scheme, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert_quiet(page)
    page.locator("#s1-trial-2 a").click()
    assert axe.Axe().run(page).violations_count == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 380) == (scheme == "light")


def test_hostile_texts_are_shown_as_texts(bench, browse):
    text, out = make(bench, write_other(bench.path / "logs"))
    assert "<img src=x" not in text and "49" not in text.split("7*7")[1][:4] and "\x1b" not in text
    page = browse(out / "report.html")
    shown = page.locator("#s1-trials")
    assert all(text.count("<img src=x onerror") == 2 for text in shown.locator("#s1-trial-2").all_inner_texts())
    shown.locator("#s1-trial-2 a").click()
    assert "<img src=x onerror" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert "<img src=x onerror" in page.get_by_role("region", name="Failures and lost attempts").inner_text()
    assert page.locator("img[src=x]").count() == 0 and page.locator("script:not([type])").count() == 1
    assert_quiet(page)
    assert_figures_are_sound(out, least=6)


def test_the_command_can_be_copied_and_works(bench, browse):
    _, out = make(bench, write_grid(bench.path / "logs", "scenario1", lambda s, k: 0.1 + abs(s["learning_rate"] - 0.2)))
    page = browse(out / "report.html")
    command = page.locator("#s1-command").inner_text()
    page.get_by_role("button", name="Copy").click()
    page.locator(".command output:not(:empty)").wait_for()
    assert page.locator(".command output").inner_text() in ("copied", "selected: Ctrl-C copies")
    assert command.startswith("python exercise3.py --learning-rate 0.2 --seed ") and "--batch-size 500" in command
    assert "validation error" in bench.finish(bench.start(*command.split()[1:], "--epochs", "1"))
    assert_quiet(page)


# ---------------------------------------------------------------- sentences follow the data


def test_scenario_1_other_data_other_answers(bench):
    small = {0.001: 2.27, 0.01: 0.9, 0.1: 0.2, 0.2: 0.12, 0.3: 0.09, 0.5: 0.07, 1.0: 0.3, 2.0: 2.3}
    first = write_grid(bench.path / "a", "scenario1", lambda s, k: small[s["learning_rate"]] * (1 + k / 1000),
                       collapsed=lambda s: s["learning_rate"] == 2)  # fmt: skip
    second = write_grid(bench.path / "b", "scenario1", lambda s, k: (1 + k / 100) * s["learning_rate"] ** 0.5 / 2)
    one, other = answers(make(bench, first)[0]), said_of(second)
    assert any(a.startswith("Best learning rate: 0.5, with a final training loss of 0.0701") for a in one)
    assert any(a.startswith("Best learning rate: 0.001, with a final training loss of 0.016") for a in other)
    assert "Learning rates that collapse to a constant loss: 2 (3 of 3 runs)." in one
    assert "No setting collapses to a constant loss." in other
    assert any("collapse to a constant training loss of 2.303" in a for a in one)
    assert any("goes from 2.3 to 2.27" in a and "falling by 0.2 %" in a for a in one)
    assert_figures_are_sound(bench.path / "page", least=3)


def test_scenario_2_says_the_best_rate_for_each_batch_size(bench):
    best = {20: 0.1, 100: 0.2, 500: 0.5}

    def loss(settings, repeat):
        return 0.03 + abs(settings["learning_rate"] - best[settings["batch_size"]]) + repeat / 1000

    def seconds(settings):
        return 20 + 0.002 * (5000 // settings["batch_size"]) * 10

    page, out = make(bench, write_grid(bench.path / "a", "scenario2", loss, seconds))
    said = answers(page)
    for size, rate in best.items():
        assert any(a.startswith(f"Best learning rate for batch size {size}: {rate} (training loss 0.031 ± 0.001 (3 runs);")
                   and "more than chance" in a for a in said)  # fmt: skip
    assert any(
        "0.1 at 20, 0.2 at 100 and 0.5 at 500: the larger the batch, the larger the best rate" in a for a in said
    )
    assert any("2.00 ms for each step and 20 s that the number of steps does not change" in a for a in said)
    best.update({20: 0.5, 500: 0.1})
    said = said_of(write_grid(bench.path / "b", "scenario2", loss, seconds, repeats=1))
    assert any(a.startswith("Best learning rate for batch size 20: 0.5 (training loss 0.03 (1 run);") for a in said)
    assert any("the larger the batch, the smaller the best rate" in a for a in said)
    assert any("too few runs to tell" in a for a in said)
    assert_figures_are_sound(out, least=3)


def test_scenario_2_noise_is_called_noise(bench):
    noise = itertools.cycle([0.1, 0.3, 0.2, 0.25, 0.12])
    said = said_of(write_grid(bench.path / "a", "scenario2", lambda s, k: next(noise)))
    assert sum("within noise" in a for a in said) == 3


def test_scenario_3_order_momentum_and_effective_rate(bench):
    def effective(settings):
        return settings["learning_rate"] / (1 - settings["momentum"])

    def loss(settings, repeat):
        return 0.01 / effective(settings) * (1 + repeat / 1000)

    logs = write_grid(bench.path / "a", "scenario3", loss, collapsed=lambda s: effective(s) > 0.5)
    page, out = make(bench, logs)
    said = answers(page)
    assert any(a.startswith("Best combination: rate 0.1, momentum 0.5 (effective 0.2)") for a in said)
    assert any("9. rate 0.1, momentum 0.9 (effective 1): collapsed in 3 of 3 runs" in a for a in said)
    assert any("At learning rate 0.01 " in a and "at 0.9: momentum helps, more than chance" in a for a in said)
    assert any("At learning rate 0.1 " in a and "collapses at momentum 0.9 (3 of 3 runs)" in a for a in said)
    assert any("rank correlation of -" in a for a in said)
    assert any(a.startswith("Equal effective rate: rate 0.01, momentum 0 ") and "within noise" in a for a in said)
    harmful = write_grid(bench.path / "b", "scenario3", lambda s, k: 0.1 + s["momentum"] + k / 1000)
    said = said_of(harmful)
    assert sum("momentum does not help, more than chance" in a for a in said) == 3
    assert_figures_are_sound(out, least=2)


def test_scenario_4_the_filters_for_a_budget(bench):
    logs = write_grid(bench.path / "a", "scenario4", lambda s, k: 1 / s["filters"], lambda s: 2.0 * s["filters"], 1)
    page, out = make(bench, logs)
    said = answers(page)
    assert any(a.startswith("Filters for 10 epochs: 256, with a validation error of") for a in said)
    ten = next(a for a in said if a.startswith("Filters for 10 seconds: "))
    assert "64, 128 and 256 did not end one epoch" in ten
    assert any(re.match(r"Filters for 114 s, an equal share of the 17\.0 min that all took: \d+,", a) for a in said)
    assert any("that with 1 2 s: 256 times as long" in a for a in said)
    assert_figures_are_sound(out, least=4)


def test_scenarios_5_and_6_one_search_by_one_and_by_several(bench):
    write_search(bench.path / "kept" / "one", 1, trials=8, name="scenario6")
    write_search(bench.path / "kept" / "three", 3, slow=1.25)
    page, out = make(bench, bench.path / "kept")
    said = answers(page)
    assert "one: 8 settings files, 8 different settings, 8 results by 1 worker: each evaluated exactly once." in said
    assert any(a.startswith("three: 24 settings files") and a.endswith("each evaluated exactly once.") for a in said)
    gain = next(a for a in said if a.startswith("3 workers against 1: of the 8 trials that both have"))
    assert "1.25 times as long" in gain and 1.9 < float(re.search(r"that is ([\d.]+) times", gain)[1]) < 2.41
    assert any(re.match(r"Collapsed: 1 of 24 .*LR/\(1−M\) of these: 6\.6; of the others: ", a) for a in said)
    effective = next(a for a in said if a.startswith("The effective rate LR/(1−M) alone predicts"))
    alone, rate, *_ = (int(n) for n in re.findall(r"(\d+) %", effective.replace("nothing", "0 %")))
    assert alone > rate
    assert any("simulated searches reaches" in a for a in said)
    assert (out / "three-simulated-searches.png").exists() and (out / "one-timeline-1.svg").exists()
    assert_figures_are_sound(out, least=9)


def test_a_settings_file_evaluated_twice_is_told(bench):
    logs = write_search(bench.path / "logs", 2, trials=8, name="scenario6")
    folder = Folder(logs)
    name = TrialName(3, 1, "seen")
    lost = open(folder.locate(name)).read()
    with open(folder.locate(TrialName(3, 1, "lost")), "w") as file:
        file.write(lost.replace('"result"', '"nothing"'))
    shutil.move(folder.locate(name), folder.locate(TrialName(3, 2, "seen")))
    said = said_of(logs)
    assert any(
        "8 settings files" in a and "1 attempt was lost and tried again; each is counted once" in a for a in said
    )
    assert not any("exactly once" in a for a in said)


# ---------------------------------------------------------------- any study, at any time


def test_a_study_of_ones_own(bench):
    page, out = make(bench, write_other(bench.path / "logs"))
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
        assert (out / f"{figure}.png").exists() and f'id="s1-{figure}"' in page
    assert "echo &#39;{" in page and "trial-90001-1.jsonl" in page
    assert_figures_are_sound(out, least=7)


def test_just_begun(bench):
    folder = Folder(bench.path / "logs")
    folder.prepare()
    folder.write_study(OTHER)
    page, _ = make(bench, folder.path)
    assert any("not enough data" in a for a in answers(page)) and "0 of 40 trials have ended." in page


@pytest.mark.parametrize("scenario", [f"scenario{k}" for k in range(1, 7)])
def test_a_scenario_that_has_just_begun(bench, scenario):
    folder, study = Folder(bench.path / "logs"), load(scenario)
    folder.prepare()
    folder.write_study(study.to_record())
    assert any("not enough data" in a for a in said_of(folder.path))
    write_trial(folder, TrialName(0, 1, "seen"), settings_of(study, 0), [2.0, 1.0], {"validation_error": 0.1})
    assert any("not enough data" in a for a in said_of(folder.path))
    write_trial(
        folder,
        TrialName(1, 1, "seen"),
        settings_of(study, 1),
        [None, None],
        {"validation_error": None, "diverged": True},
    )
    write_trial(folder, TrialName(2, 1, "taken", "a-1-b"), settings_of(study, 2), [2.0], None)
    folder.record_failure(TrialName(3, 3), settings_of(study, 3), ["out of memory"] * 3)
    page, _ = make(bench, folder.path)
    assert "out of memory" in page


ODD = [[1], {"a": 1}, None, True, "0.1", -1, 0, 1, 10**30, 1e-300, HOSTILE]


def add_odd_trials(folder, study):
    """What a person may queue by hand, and a worker may answer; returns how many."""
    names = [*study.space, "data", "epochs"]
    for k, (value, name) in enumerate(itertools.product(ODD, names), start=90_000):
        settings = {**settings_of(study, 0), name: value}
        result = {"validation_error": 0.0, "seconds": [None, 0, "x", -5][k % 4], "diverged": k % 3}
        write_trial(folder, TrialName(k, 1, "seen"), settings, [[0.0], [], [None, 1e308], [-1.0]][k % 4], result)
    path = folder.locate(TrialName(80_000, 1, "seen"))
    with open(path, "w") as file:
        file.write('{"settings": {}}\n{"claimed": 5, "time": "9999-99"}\n{"epoch": "x"}\n{"result": {}, "time": 7}\n')
    with open(folder.locate(TrialName(80_001, 1, "seen")), "w") as file:
        file.write('{"settings": {"learning_rate": 0.1}}\n{"claimed": "x", "host": [1], "time": "0001-01-01"}\n'
                   '{"epoch": null, "training_loss": "x"}\n{"result": {"validation_error": 1e308}, "time": "9999-01-01"}\n')  # fmt: skip


@pytest.mark.parametrize("scenario", [f"scenario{k}" for k in range(1, 5)])
def test_what_was_queued_by_hand_changes_no_answer_of_a_scenario(bench, scenario):
    logs = write_grid(
        bench.path / "logs", scenario, lambda s, k: 0.1 + k / 100 + s.get("learning_rate", 0.3), repeats=2
    )
    before = said_of(logs)
    add_odd_trials(Folder(logs), load(scenario))
    after = said_of(logs)
    assert [answer for answer in after if "diverged or stayed" not in answer] == before


@pytest.mark.parametrize("name", ["scenario5", "scenario6", "mine"])
def test_odd_trials_of_a_search(bench, name):
    logs = write_search(bench.path / "logs", 2, name=name)
    add_odd_trials(Folder(logs), load("scenario5"))
    assert_figures_are_sound(make(bench, logs)[1])


@pytest.mark.parametrize("scenario", [f"scenario{k}" for k in range(1, 5)])
def test_nothing_takes_no_time_and_loses_nothing(bench, scenario):
    logs = write_grid(bench.path / "logs", scenario, lambda s, k: 1e-300, seconds=lambda s: 0.0)
    said_of(logs)


def test_a_second_result_of_a_trial_is_told(bench):
    logs = write_search(bench.path / "logs", 2, trials=8, name="scenario6")
    folder = Folder(logs)
    shutil.copy(folder.locate(TrialName(3, 1, "seen")), folder.locate(TrialName(3, 2, "seen")))
    said = said_of(logs)
    assert any(a.endswith("trial 3 was evaluated more than once; each is counted once.") for a in said)
    assert not any("exactly once" in a for a in said)
    assert "Of trial 3 there is another file, which is not counted." in said


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
    from foldertune.reading.archive import read_search
    from foldertune.reading.plots import draw_timeline

    logs = write_search(bench.path / "logs", 100, trials=120, name="mine")
    folder = Folder(logs)
    write_trial(folder, TrialName(7, 1, "lost"), {}, [1.0], None, "zzz-1-abcd", 50)
    (axes,) = draw_timeline(read_search(logs)).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 60 and "zzz-1-abcd" in labels
    assert any("; 60 of 101 workers, first those that lost an attempt" in p.caption for p in pictures_of(logs))


def pictures_of(*logs):
    searches = dict(read_all(logs).values())
    return [picture for search in searches.values() for picture in find(search, searches).pictures]


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
    logs = write_other(bench.path / "logs", trials=7)
    one, out = make(bench, logs)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    two, out = make(bench, logs)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first and one == two


def test_a_broken_file_is_named_and_left_out(bench):
    logs = write_other(bench.path / "logs", trials=7)
    path = Folder(logs).locate(TrialName(4, 1, "seen"))
    with open(path, "w") as file:
        file.write("nonsense\n")
    process = bench.start("-m", "analysis.report", "--logs", logs, "--out", bench.path / "page")
    said = bench.finish(process)
    assert f"left out: {path}: line 1 is not JSON" in said
    assert any("1 file could not be read" in a for a in answers((bench.path / "page/report.html").read_text()))


def test_it_lies_in_the_folder_if_nothing_else_is_said(bench):
    write_other(bench.logs, trials=2)
    assert (
        bench.finish(bench.start("-m", "analysis.report", "--logs", bench.logs)) == f"{bench.logs}/report/report.html\n"
    )


def test_what_cant_be_done_is_said_in_a_line(bench):
    said, _ = make(bench, bench.path / "nowhere", code=2)
    assert "no study there" in said and said.count("\n") == 1
    blocked = bench.path / "file"
    blocked.write_text("")
    said, _ = make(bench, write_other(bench.path / "logs", trials=1), out=blocked, code=2)
    assert str(blocked) in said and "--out" in said and said.count("\n") == 1
