"""Studies for tests of figures, sentences and pages, written as workers leave them; and helpers that read a page."""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

from analysis.scenarios import find
from foldertune.cli import run
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
    """A finished grid of a scenario, with the final training loss `loss(settings, repeat)`."""
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
    folder.complete_study({})
    return path


def write_search(path, workers, trials=24, name="scenario5", slow=1.0):
    """A random search of scenario 5 by this many workers at once, in which the effective rate decides."""
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
    """A study of another objective, with everything that can go wrong: lost, failed, diverged, running, hostile texts."""
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


def report(*arguments):
    """Run the command that makes the page, in this process. Returns its exit code and what it says."""
    said = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run("report", list(map(str, arguments)), program="python -m analysis.report", find=find)
    said.seek(0)
    return code, said.read()


def make(bench, *logs, code=0, out=None):
    """Make the page. Returns its text and the folder with its figures; if it can't be made, what was said."""
    out = out or bench.path / "page"
    ended, said = report("--logs", *logs, "--out", out)
    assert ended == code, said
    if code:
        return said, out
    assert said.splitlines()[-1] == f"{out}/report.html"
    return (out / "report.html").read_text(), out


def said_of(*logs):
    """The sentences about these studies, and every figure drawn once, without a page or a process of its own."""
    searches = {entry.name: entry.results for entry in read_all(logs)}
    found = [find(search, searches) for search in searches.values()]
    for findings in found:
        for picture in findings.pictures:
            areas = [axes for axes in picture.draw().axes if axes.get_visible()]
            shown = [axes for axes in areas if axes.patch.get_visible()]  # an axis on top of another area is a scale
            assert shown and all(axes.has_data() for axes in shown), picture.name
    return [answer for findings in found for answer in findings.answers]


def answers(page):
    """The sentences about a study, one text each."""
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


def pictures_of(*logs):
    searches = {entry.name: entry.results for entry in read_all(logs)}
    return [picture for search in searches.values() for picture in find(search, searches).pictures]


ODD = [[1], {"a": 1}, None, True, "0.1", -1, 0, 1, 10**30, 1e-300, HOSTILE]


def add_odd_trials(folder, study):
    """Add odd trials that a person may queue by hand, with odd results. Returns their number."""
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
