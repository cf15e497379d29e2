"""The live view in a real terminal, as a person sees it who leaves it open."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import pty
import random
import re
import signal
import struct
import termios
import threading
import time

import pytest

from foldertune.protocol import Folder, Leases, Trial, TrialName, to_line
from foldertune.reading.archive import open_study, read_archive
from foldertune.reading.facts import Course, rate
from foldertune.reading.reader import Reader
from foldertune.reading.results import Results
from foldertune.reading.terminal.curves import chart, sparkline, view_range
from foldertune.reading.terminal.live import last_value, summary
from foldertune.reading.terminal.screen import Screen
from foldertune.reading.words import hourly
from foldertune.study_file import study_from_record
from foldertune.text import moment
from tests.conftest import PATIENCE, wait_for

STUDY = {
    "name": "toy", "strategy": "random", "trials": 30, "metric": "validation_error", "fixed": {"epochs": 9},
    "space": {"learning_rate": {"type": "float", "low": 0.0, "high": 1.0}},
}  # fmt: skip
SHOWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[H|\x1b\[\?(?:1049|25)[hl]")  # colours, home, the other screen, the cursor
LEAVE = "\x1b[?1049l"


def write(folder, name, *lines):
    with open(folder.locate(name), "wb") as file:
        file.write(b"".join(map(to_line, lines)))


def claimed(host, minute=0):
    return {"claimed": f"{host}-1-abcd", "host": host, "time": f"2026-01-01T00:{minute:02d}:00.000Z"}


def under_way(bench, running=1, lease=180.0, host="gpu00"):
    """A study with ten ended trials, one failed, one lost attempt, one pending, and some running. Returns their claims."""
    folder: Folder = bench.folder
    folder.prepare()
    folder.write_study(STUDY)
    settings = {"settings": {"learning_rate": 0.25, "epochs": 9}, "lease": lease}
    for k in range(10):
        end = {
            "result": {"validation_error": 0.48 if k == 5 else 0.5 - k / 100},
            "time": f"2026-01-01T00:{k:02d}:45.000Z",
        }
        write(folder, TrialName(k, 1, "seen"), settings, claimed(f"gpu0{k % 2}", k), end)
    write(folder, TrialName(3, 2, "lost"), settings, claimed("gpu07"))
    folder.record_failure(TrialName(10, 3), settings["settings"], ["out of memory"] * 3)
    folder.publish(TrialName(11, 1), settings["settings"], lease=lease)
    claims = []
    for k in range(12, 12 + running):
        folder.publish(TrialName(k, 1), settings["settings"], lease=lease)
        claim = folder.claim(f"{host}-{k}-abcd", iter([TrialName(k, 1)]))
        claim.append({"claimed": f"{host}-{k}-abcd", "host": host, "time": "2026-01-01T00:30:00.000Z"})
        for epoch in range(1, 6):
            claim.append({"epoch": epoch, "validation_loss": 1 / epoch})
        claims.append(claim)
    return claims


class Terminal:
    """A real terminal in which a program shows itself."""

    def __init__(self, bench, *command, columns=80, lines=24):
        self.bench = bench
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = bench.start(
            *command, stdin=slave, stdout=slave, stderr=slave, text=False, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env=environment | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(slave)
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        data = b""
        while True:
            try:
                data += (part := os.read(self._master, 65536))
            except OSError:  # the program has ended
                return
            if not part:
                return
            self.said = data.decode(errors="replace")

    def resize(self, columns, lines):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text):
        os.write(self._master, text.encode())

    def screens(self):
        """The contents of the screen, each time it was drawn as a whole."""
        drawn = self.said.partition("\x1b[?1049h")[2].partition(LEAVE)[0].split("\x1b[H")
        return [SHOWN.sub("", text).replace("\r", "") for text in drawn if "Ctrl-C closes" in text]

    def last(self):
        """The last contents of the screen, to explain a failed test."""
        return SHOWN.sub("", self.said)[-2500:]

    def wait_for(self, *texts, columns=80, lines=24):
        """The first screen of that size that shows all these texts."""

        def found():
            assert self.process.poll() is None, self.last()
            for screen in self.screens():
                rows = screen.split("\n")
                if len(rows) == lines and max(map(len, rows)) <= columns and all(text in screen for text in texts):
                    return screen
            return None

        try:
            return wait_for(found, f"{texts} on {columns}×{lines}")
        except AssertionError as error:
            raise AssertionError(f"{error}, and saw\n{self.last()}") from None

    def end(self, code, screens=1):
        """The normal screen after the program has ended."""
        self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        assert self.process.returncode == code, self.last()
        assert "Traceback" not in self.said, self.last()
        assert self.said.count("\x1b[?1049h") == self.said.count(LEAVE) == screens
        assert self.said.rfind("\x1b[?25h") > self.said.rfind("\x1b[?25l"), "the cursor is gone"
        return SHOWN.sub("", self.said.rpartition(LEAVE)[2]).replace("\r", "")


@pytest.fixture
def watch(bench):
    """The live view of the bench's folder, in a terminal."""
    return lambda **size: Terminal(bench, "-m", "foldertune", "status", "--watch", "--logs", bench.logs, **size)


# ---------------------------------------------------------------- the screen


def test_all_of_it_is_on_a_screen_of_80_by_24(bench, watch):
    under_way(bench, running=2)
    screen = watch().wait_for("11 of 30 trials")
    for wanted in ("1 pending, 2 running, 10 succeeded, 1 failed, 1 lost attempt", "to go, until",
                   "best: validation_error 0.41 in trial 9 (learning_rate 0.25)",
                   "gpu00-12-abcd", "5/9", "validation_loss", "█▄▂▁▁", "host", "trials/h", "last heartbeat", "…",
                   "trial 10 failed: out of memory", "trial 3, attempt 2 lost: no result from gpu07-1-abcd",
                   "validation_error of 10 trials", "0.41 ", "0.5 ", "•"):  # fmt: skip
        assert wanted in screen, screen


def test_it_fits_whatever_the_size(bench, watch):
    under_way(bench, running=15)
    terminal = watch()
    first = terminal.wait_for("gpu00-12-abcd", "and 1", "Ctrl-C")
    terminal.resize(120, 40)
    second = terminal.wait_for("gpu00-12-abcd", columns=120, lines=40)
    terminal.resize(50, 12)
    third = terminal.wait_for("gpu00-12", "Ctrl-C", columns=50, lines=12)
    seen = [screen.count("gpu00-") for screen in (first, second, third)]
    assert seen[1] > seen[0] > seen[2] > 0, seen
    assert "validation_error of 10" in second and "validation_error of 10" not in third
    terminal.resize(40, 6)
    terminal.wait_for("toy", "Ctrl-C", columns=40, lines=6)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_it_leaves_the_terminal_clean(bench, watch, how):
    under_way(bench)
    terminal = watch()
    terminal.wait_for("11 of 30")
    if how == "Ctrl-C":
        terminal.type("\x03")
    else:
        terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end(130 if how == "Ctrl-C" else 143).strip() == ""


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(bench, watch):
    under_way(bench)
    terminal = watch()
    terminal.wait_for("11 of 30")
    terminal.type("\x1a")
    stat = f"/proc/{terminal.process.pid}/stat"
    wait_for(lambda: open(stat).read().rpartition(")")[2].split()[0] == "T", "it to stop")
    wait_for(lambda: terminal.said.endswith(LEAVE), "the screen to be left")
    assert terminal.said.rfind("\x1b[?25h") > terminal.said.rfind("\x1b[?25l"), "the cursor is gone"
    terminal.process.send_signal(signal.SIGCONT)
    wait_for(lambda: terminal.said.rpartition(LEAVE)[2].count("11 of 30") > 1, "it to go on")
    terminal.type("\x03")
    terminal.end(130, screens=2)


def test_what_came_out_stays_when_the_study_is_complete(bench, watch):
    (claim,) = under_way(bench)
    terminal = watch()
    terminal.wait_for("1 running")
    claim.finish({"result": {"validation_error": 0.125}, "time": "2026-01-01T01:00:00.000Z"})
    bench.folder.collect(claim.name.to("done"))
    bench.folder.complete_study({})
    left = terminal.end(0)
    assert (
        "12 of 30 trials" in left and "complete" in left and "0.125 in trial 12" in left and "trial 10 failed" in left
    )


def test_a_study_that_is_extended_or_changed_is_watched_as_it_is_now(bench, watch):
    under_way(bench)
    terminal = watch()
    terminal.wait_for("11 of 30 trials")
    bench.folder.write_study({**STUDY, "trials": 50})
    terminal.wait_for("11 of 50 trials")
    bench.folder.complete_study({})
    terminal.end(0)


def test_trouble_with_the_folder_is_said_and_passes(bench, watch):
    under_way(bench)
    terminal = watch()
    terminal.wait_for("11 of 30")
    bench.logs.rename(bench.path / "away")
    terminal.wait_for("the folder is in trouble", "11 of 30")
    terminal.resize(100, 30)
    terminal.wait_for("the folder is in trouble", columns=100, lines=30)
    (bench.path / "away").rename(bench.logs)
    drawn = len(terminal.screens())
    wait_for(lambda: [screen for screen in terminal.screens()[drawn:] if "in trouble" not in screen], "the end of it")
    terminal.type("\x03")
    terminal.end(130)


def test_a_silent_worker_is_flagged_and_one_that_shows_signs_is_not(bench, watch):
    lively, silent = under_way(bench, running=2, lease=2.0)
    stop = threading.Event()
    beating = threading.Thread(target=lambda: [lively.beat() for _ in iter(lambda: stop.wait(0.01), True)])
    beating.start()
    try:
        screen = watch().wait_for("silent > 0:0")
    finally:
        stop.set()
        beating.join()
    flagged = [line for line in screen.splitlines() if "silent > " in line]
    assert (
        len(flagged) == 1
        and silent.name.owner in flagged[0]
        and screen.index(silent.name.owner) < screen.index(lively.name.owner)
    )
    assert re.search(r"gpu00 .* > 0:0\d ago", screen)


def test_a_worker_that_is_stopped_is_flagged(bench, watch):
    bench.start("master.py", bench.study(objective="stuck"), "--logs", bench.logs, "--workers", 0, "--lease", 8)
    worker = bench.worker("stuck")
    (name,) = wait_for(lambda: bench.names("taken"), "a claim")
    terminal = watch()
    terminal.wait_for(name.owner, "0:00 ago")
    worker.send_signal(signal.SIGSTOP)
    terminal.wait_for(name.owner, "silent 0:0")


def test_hostile_text_reaches_the_terminal_as_no_command(bench, watch):
    (claim,) = under_way(bench)
    evil = "\x1b[2J\x1b]0;owned\x07[red]\r\n\x9b31m\u202e"
    claim.append({"claimed": f"{evil}-1-a", "host": evil, "time": evil})
    claim.append({"epoch": evil, evil: 0.5})
    write(bench.folder, TrialName(4, 2, "lost"), {"settings": {}}, claimed(evil), {"error": f"oh {evil}", "time": evil})
    terminal = watch()
    terminal.wait_for("\\x1b[2J", "oh \\x1b[2J\\x1b]0;owned\\x07[red]\\r\\n\\x9b31m\\u202e")
    terminal.type("\x03")
    terminal.end(130)
    assert not re.search(r"[^\x20-\x7e\n\xa0-\uffff]|\u202e", SHOWN.sub("", terminal.said).replace("\r", ""))


def test_without_a_terminal_it_is_a_line_for_each_news(bench):
    under_way(bench)
    process = bench.start("-m", "foldertune", "status", "--watch", "--logs", bench.logs)
    assert "11 of 30 trials; 1 pending, 1 running" in process.stdout.readline()
    bench.folder.complete_study({})
    said = bench.finish(process)
    assert said.count("\n") == 1 and "complete" in said and "\x1b" not in said


# ---------------------------------------------------------------- what is looked at


def observe(bench, clock=time.monotonic):
    return Reader(*open_study(bench.logs), clock=clock)


def test_silence_is_measured_by_the_observer_s_clock(bench):
    (claim,) = under_way(bench, lease=40.0)
    now = [1000.0]
    reader = observe(bench, lambda: now[0])

    def silence(seconds=0.0):
        now[0] += seconds
        return reader.read().silences[claim.name]

    assert (silence().seconds, silence().heard) == (0.0, False)
    assert (silence(15).seconds, silence().heard) == (15.0, False)
    os.utime(claim.path, (1e9, 1e9))  # a heartbeat by a clock that is years behind
    assert (silence(15).seconds, silence().heard, silence().share) == (0.0, True, 0.0)
    assert (silence(30).share, silence().heard) == (0.75, True)
    assert silence(30).share == 1.5
    (host,) = [host for host in reader.read().hosts if host.workers]
    assert host.silence.seconds == 60.0


def test_silence_proves_nothing_while_the_observer_was_stopped(bench):
    (claim,) = under_way(bench, lease=40.0)
    now = [1000.0]
    reader = observe(bench, lambda: now[0])
    reader.read()
    now[0] += Leases().seconds
    assert reader.read().silences[claim.name].seconds == 0.0


class CountingFolder(Folder):
    """A folder that counts what is read."""

    reads = 0

    def read(self, name, *, epochs=True):
        self.reads += 1
        return super().read(name, epochs=epochs)


def test_nothing_is_read_twice_that_has_not_changed(bench):
    claims = under_way(bench, running=3)
    folder = CountingFolder(bench.logs)
    reader = Reader(folder, open_study(bench.logs)[1])
    reader.read()
    assert folder.reads == 11 + 3 + 1
    for claim in claims:
        claim.beat()
    status = reader.read()
    assert folder.reads == 15 and all(silence.heard for silence in status.silences.values())
    claims[1].append({"epoch": 6, "validation_loss": 0.1})
    assert reader.read().running[1].epochs[-1]["epoch"] == 6 and folder.reads == 16
    claims[1].finish({"result": {"validation_error": 0.125}, "time": "2026-01-01T01:00:00.000Z"})
    folder.collect(claims[1].name.to("done"))
    status = reader.read()
    assert folder.reads == 17 and len(status.trials) == 12 and len(status.running) == len(status.silences) == 2


def test_setbacks_are_told_latest_first(bench):
    under_way(bench)
    reader = observe(bench)
    told = [(s.name.number, s.is_final, s.reason) for s in reader.read().latest_setbacks(5)]
    assert told == [(10, True, "out of memory"), (3, False, "no result from gpu07-1-abcd: it died or fell silent")]
    write(bench.folder, TrialName(2, 2, "lost"), {"settings": {}}, claimed("a"), {"error": "disk full"})
    with open(bench.folder.locate(TrialName(5, 2, "lost")), "w") as file:
        file.write("nonsense\n")
    write(bench.folder, TrialName(10, 2, "lost"), {"settings": {}}, claimed("a"), {"error": "out of memory"})
    latest = reader.read().latest_setbacks(2)
    assert "line 1 is not JSON" in latest[0].reason and latest[1].reason == "disk full"
    assert [s.name.number for s in reader.read().latest_setbacks(5)] == [5, 2, 10, 3], (
        "the failed trial's own attempts too"
    )
    assert len(reader.read().lost) == 4


def ended(number, start, end):
    """A counted trial with these times."""
    claim = {"claimed": "gpu00-1-abcd", "time": start}
    return Trial(TrialName(number, 1, "seen"), {}, claim=claim, result={}, finished=end)


def test_rate_is_of_the_last_hour_or_since_the_first_claim():
    def row(claim, end):
        moments = [f"2026-01-01T{t // 60:02d}:{t % 60:02d}:00Z" for t in (claim, end)]
        return ended(0, *moments)

    assert rate([]) is None
    assert rate([row(60, 70), row(70, 80)]) == pytest.approx(6.0)
    assert rate([row(20 * k, 20 * k + 20) for k in range(6)] + [row(120 + 5 * k, 125 + 5 * k) for k in range(12)]) == 12
    assert rate([row(60, 60)]) is None
    assert rate([ended(0, "x", ["y"])]) is None


def test_numbers_per_hour():
    assert [hourly(rate) for rate in (2.449, 244.9, 2449.0)] == ["2.45", "245", "2,449"]


def test_the_last_value_is_that_of_the_metric_if_it_is_reported():
    results = Results.of(study_from_record(STUDY, "toy"), [])
    trial = Trial(TrialName(0, 1, "taken", "h-1-a"), {}, epochs=[{"epoch": 1, "validation_error": 0.5, "seconds": 7.0}])
    assert last_value(results, trial) == "validation_error 0.5"
    trial.epochs.append({"epoch": 2, "seconds": 9.0})
    assert last_value(results, trial) == "seconds 9"


def test_a_study_kept_small_is_shown_once(bench):
    under_way(bench)
    kept = bench.path / "kept"
    bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.logs, "--keep", kept))
    for arguments in ([], ["--watch"]):
        said = bench.finish(bench.start("-m", "foldertune", "status", "--logs", kept, *arguments))
        for wanted in ("11 of 30 trials", "10 succeeded, 1 failed, 1 lost attempt", "not complete",
                       "0.41 in trial 9", "trial 10 failed: out of memory", "trial 3, attempt 2 lost"):  # fmt: skip
            assert wanted in said, said
        assert "pending" not in said and max(map(len, said.splitlines())) <= 80
    assert [host.finished for host in read_archive(kept).hosts] == [5, 5]


# ---------------------------------------------------------------- how it is drawn


def test_no_size_is_too_small_and_no_line_too_much(bench):
    from rich.console import Console
    from rich.screen import Screen as Whole

    seed = random.randrange(10**6)
    print(f"seed {seed}")
    random.seed(seed)
    under_way(bench, running=7)
    status = observe(bench).read()
    for _ in range(60):
        width, height = random.randint(1, 150), random.randint(1, 60)
        console = Console(file=io.StringIO(), width=width, height=height)
        lines = console.render_lines(Screen("toy", status), console.options.update(height=height))
        assert len(lines) == height or height < 12, (width, height, len(lines))
        console.print(Whole(Screen("toy", None, note="the folder is in trouble")))


def test_sparkline():
    assert sparkline([], 9) == ""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 9) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 3, 3], 9) == "▅▅▅"
    assert sparkline(range(100), 4) == "▁▃▆█"
    assert sparkline([1e308, -1e308, 5e-324], 9) == "█▁▅"


def course(values, better):
    return Course(values, list(itertools.accumulate(values, better)), [None] * len(values))


def test_the_chart_shows_each_value_and_the_best_so_far():
    drawn = [text.plain for text in chart(course([4.0, 2.0, 3.0, 1.0], min), "minimize", 7, 4)]
    assert [line.count("•") for line in drawn] == [0, 1, 0, 0]  # the others are on the line
    assert all(line.strip() for line in drawn) and {len(line) for line in drawn} == {7}
    mirrored = [text.plain for text in chart(course([-4.0, -2.0, -3.0, -1.0], max), "maximize", 7, 4)]
    assert [line.count("•") for line in mirrored] == [0, 0, 1, 0]
    for values in ([1.0], [0.0, 0.0], [1e308, -1e308], [0.0, 5e-324], [float(k % 97) for k in range(10_000)]):
        for width in (1, 70):
            for direction, better in (("minimize", min), ("maximize", max)):
                assert len(chart(course(values, better), direction, width, 4)) == 4


def test_what_diverged_is_drawn_at_the_edge():
    assert view_range([0.1, 0.2, 0.3, 0.2, 9.0], "minimize") == (0.1, pytest.approx(0.4))
    assert view_range([0.9, 0.8, 0.7, 0.8, 0.0], "maximize") == (pytest.approx(0.6), 0.9)
    assert view_range([1.0, 2.0, 3.0], "minimize") == (1.0, 3.0)


def test_an_end_that_is_not_today_bears_its_date():
    noon = time.mktime((*time.localtime()[:3], 12, 0, 0, 0, 0, -1))
    assert moment(noon) == "12:00"
    assert re.fullmatch(r"\w{3} \d\d \w{3} 12:00|\d\d \w{3} \d{4} 12:00", moment(noon + 2 * 86400))
    assert re.fullmatch(r"\d\d \w{3} \d{4} \d\d:00", moment(noon + 400 * 86400))


def test_expected_time_is_sensible_whatever_the_clocks_say():
    def status(asked):
        return Results.of(study_from_record({**STUDY, "trials": asked}, "x"), [*trials, trial])

    times = [("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"), ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
             ("2026-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), ("yesterday", ["today"])]  # fmt: skip
    trials = [ended(k, start, end) for k, (start, end) in enumerate(times)]
    trial = Trial(TrialName(4, 1, "taken", "a-1-b"), {}, claim={"time": "2020-01-01T00:00:00Z"})
    assert status(14).remaining(time.time()) == 9 * 60
    assert re.fullmatch(r"\d\d \w{3} \d{4} \d\d:\d\d", moment(time.time() + status(10**12).remaining(time.time())))
    assert "until" in summary(status(10**12))
    trial.claim["time"] = "9999-01-01T00:00:00Z"  # it began in the future
    assert status(14).remaining(time.time()) == 10 * 60


@pytest.mark.parametrize(
    ("budget", "minutes"),
    [
        ({"epochs": 500}, 80),
        ({"epochs": 5000}, 980),
        ({"hours": 1}, 41),  # what has begun is finished
        ({"hours": 1, "epochs": 150}, 10),
        ({"trials": 0, "epochs": 500}, 80),
        ({"trials": 0, "hours": 1}, 41),
        ({"trials": 0, "target": 0.1}, None),
    ],
)
def test_expected_time_is_that_of_the_limit_that_comes_first(budget, minutes):
    """Twenty trials of a minute and five epochs each, one after another; another one begins now."""
    now = 1767225600.0 + 20 * 60  # 2026-01-01T00:20:00Z
    minute = "2026-01-01T00:{:02}:00Z".format
    trials = [ended(k, minute(k), minute(k + 1)) for k in range(20)]
    running = Trial(TrialName(20, 1, "taken", "a-1-b"), {}, claim={"time": minute(20), "claimed": "a-1-b"})
    for trial in (*trials, running):
        trial.settings = {"learning_rate": 0.5, "epochs": 5}
    record = {**STUDY, "trials": 1000, "fidelity": {"setting": "epochs"}, "budget": budget}
    if budget.pop("trials", None) == 0:
        del record["trials"]
    remaining = Results.of(study_from_record(record, "x"), [*trials, running]).remaining(now)
    assert remaining == (None if minutes is None else minutes * 60)
    record["confirm"] = {"best": 2, "repeats": 3}  # they come after any limit, and take six minutes
    for trial in trials:
        trial.result = {"validation_error": 0.5}
    remaining = Results.of(study_from_record(record, "x"), [*trials, running]).remaining(now)
    assert remaining == (None if minutes is None else (minutes + 6) * 60)
    for stopped, whole in zip(trials[::2], trials[1::2], strict=True):  # 6 and 114 seconds, so the mean is the same
        stopped.stopped, stopped.finished = "median: …", stopped.claim["time"].replace(":00Z", ":06Z")
        whole.claim = {**whole.claim, "time": stopped.finished}
    remaining = Results.of(study_from_record(record, "x"), [*trials, running]).remaining(now)
    assert remaining == pytest.approx(None if minutes is None else minutes * 60 + 6 * 114)
