"""Figures hide no data, name their units, and use names, colours and marks that can be told apart."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from foldertune.protocol import Trial, TrialName
from foldertune.reading.facts import Column
from foldertune.reading.figures import (
    draw_best_so_far,
    draw_grid,
    draw_hyperparameters,
    draw_importance,
    draw_pair,
    draw_parallel_coordinates,
    draw_points,
    draw_simulated_searches,
    groups_picture,
    learning_curves_picture,
    pictures,
)
from foldertune.reading.figures.style import ORDERED, PAGE, dress, looks, new_figure
from foldertune.reading.importance import Importance
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from foldertune.reading.samples import Sample
from foldertune.study import Quantity
from foldertune.study_file import study_from_record
from tests.reading.test_tables import fill, run

SEARCH = {
    "name": "toy", "strategy": "random", "trials": 30, "metric": "miss", "collapsed": "broken", "fixed": {},
    "space": {
        "width": {"type": "int", "low": 1, "high": 64},
        "rate": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "kind": ["a", "b", "c"],
    },
    "metrics": {"miss": {"label": "share missed", "unit": "%", "scale": "log"}, "loss": {"scale": "log"}},
    "derived": {
        "pace": {"value": "rate * width", "label": "pace"},
        "miss_now": {"value": "1 - hit", "label": "share missed now", "unit": "%", "scale": "log"},
    },
}  # fmt: skip
EIGHT = [0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0]


def trial_of(number, settings, misses, broken=False, losses=None):
    """An ended trial with these shares missed after each epoch."""
    epochs = [
        {"epoch": k, "seconds": 2.0 * k, "loss": 3 * miss if losses is None else losses[k - 1], "hit": 1 - miss}
        for k, miss in enumerate(misses, start=1)
    ]
    time = f"2026-01-01T00:{number % 60:02d}"
    claim = {"claimed": f"gpu01-{number % 2}-abcd", "host": "gpu01", "time": f"{time}:00.000Z"}
    result = {"result": {"miss": min(misses), "broken": broken}, "time": f"{time}:50.000Z"}
    return Trial.from_records(TrialName(number, 1, "seen"), [{"settings": settings}, claim, *epochs, result], "test")


@pytest.fixture
def search():
    """A random search whose shares missed go from 0.7 to 90 per cent; the last three trials collapsed."""
    trials = []
    for k in range(24):
        settings = {"width": 1 + (7 * k) % 64, "rate": 0.001 * 1.3**k, "kind": "abc"[k % 3]}
        miss = 0.0071 * 1.12**k if k < 21 else 0.9
        trials.append(trial_of(k, settings, [3 * miss if k < 21 else miss, miss], broken=k >= 21))
    return Results.of(study_from_record(SEARCH, "test"), trials)


def grid(values, ends, first=None, repeats=1):
    """A grid over `rate` (and `width`); `ends` are the losses after the last epoch."""
    space = {"width": first, "rate": values} if first else {"rate": values}
    study = study_from_record({**SEARCH, "strategy": "grid", "space": space, "repeats": repeats}, "test")
    settings = [dict(zip(space, each, strict=True)) for each in itertools.product(*space.values())] * repeats
    trials = [
        trial_of(k, each, [0.5, 0.1, 0.1], losses=[2.3, (2.3 * end) ** 0.5, end])
        for k, (each, end) in enumerate(zip(settings, itertools.cycle(ends), strict=False))
    ]
    return Results.of(study, trials).groups(*space)


def draw_groups(groups, names, measure):
    """The figure of the curves of these groups."""
    return groups_picture("curves", "Curves.", groups, names, measure).draw()


def overlaps(boxes):
    """The pairs of boxes that overlap by more than about a point."""
    boxes = [box.shrunk(0.98, 0.85) for box in boxes]
    return [(i, j) for (i, a), (j, b) in itertools.combinations(enumerate(boxes), 2) if a.overlaps(b)]


def texts_at_ends(axes):
    return [text for text in axes.texts if text.get_label() == "end"]


# ---------------------------------------------------------------- learning curves


def test_learning_curves_are_drawn(bench):
    import matplotlib.image

    fill(bench)
    run(bench, "report", "--out", bench.path / "pictures")
    picture = matplotlib.image.imread(bench.path / "pictures" / "learning-curves.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 600 and picture.std() > 0.05


def test_the_figure_shows_every_trial_and_names_its_axes(bench):
    fill(bench)
    results = read_results(bench.logs)
    assert results.measures == ["training_loss", "validation_loss"]
    figure = learning_curves_picture(results).draw()
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ("epoch", "training loss"), ("epoch", "validation loss"),
    ]  # fmt: skip
    assert len(figure.axes[0].lines) == 21
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[0] == "trial 19: validation error 0.31 (learning rate 0.19)" and legend[-1] == "the others"


def test_two_settings_are_a_panel_for_each_value_of_the_first_on_shared_axes():
    figure = draw_groups(grid([0.1, 0.2, 0.5], [0.3, 0.1, 0.05], [20, 100, 500]), ["width", "rate"], "loss")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["width 20", "width 100", "width 500"]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1
    assert [[text.get_text() for text in texts_at_ends(axes)] for axes in figure.axes] == [["0.1", "0.2", "0.5"]] * 3
    colours = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colours[0] == colours[1] == colours[2] and len(set(colours[0])) == 3


@pytest.mark.parametrize("ends", [[0.1] * 8, [0.1, 0.101, 0.5, 0.102, 0.1, 2.0, 2.01, 2.02], [2**-k for k in range(8)]])
def test_names_stand_at_the_ends_of_lines_in_their_colours_and_not_on_each_other(ends):
    figure = draw_groups(grid(EIGHT, ends), ["rate"], "loss")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    named = texts_at_ends(axes)
    assert sorted(float(text.get_text()) for text in named) == EIGHT
    assert overlaps([text.get_window_extent() for text in named]) == []
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in named)
    colour_of = dict(zip(EIGHT, [line.get_color() for line in axes.lines], strict=True))
    assert all(text.get_color() == colour_of[float(text.get_text())] for text in named)


def test_runs_of_one_group_that_end_far_apart_have_a_name_each():
    figure = draw_groups(grid([0.1, 1.0], [0.1, 0.02, 0.1, 2.0], repeats=2), ["rate"], "loss")
    assert sorted(text.get_text() for text in texts_at_ends(figure.axes[0])) == ["0.1", "1", "1"]


def test_more_lines_than_can_be_named_have_a_legend():
    values = [k / 10 for k in range(1, 13)]
    figure = draw_groups(grid(values, values), ["rate"], "loss")
    assert len(figure.legends[0].get_texts()) == 12 and not texts_at_ends(figure.axes[0])


# ---------------------------------------------------------------- colours and marks


SEEN_BY = {  # Machado, Oliveira and Fernandes 2009, full strength
    "all": np.eye(3),
    "protanopes": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopes": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}


def lab(colour, eyes):
    """CIE L*a*b* of a colour as these eyes see it."""
    rgb = np.array(to_rgb(colour))
    linear = np.clip(SEEN_BY[eyes] @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (
        np.cbrt(part) if part > 0.008856 else 7.787 * part + 16 / 116 for part in matrix @ linear / (0.9505, 1.0, 1.089)
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(("eyes", "least"), [("all", 25), ("protanopes", 15), ("deuteranopes", 15)])
@pytest.mark.parametrize("values", [EIGHT, [2**k for k in range(9)], [0.1, 0.2, 0.5], [1, 2, 3, 4, 5, 6]])
def test_any_two_lines_of_a_figure_have_colours_that_differ_clearly(values, eyes, least):
    colours = [look.colour for look in looks(values).values()]
    apart = {(a, b): np.linalg.norm(lab(a, eyes) - lab(b, eyes)) for a, b in itertools.combinations(colours, 2)}
    assert min(apart.values()) > least, min(apart, key=apart.get)
    assert all(lab(colour, "all")[0] < 80 for colour in colours), "too pale on white"


def test_neighbours_differ_in_grey_or_in_their_line_style():
    styles = list(looks(EIGHT).values())
    for a, b in itertools.pairwise(styles):
        assert a.style != b.style or abs(lab(a.colour, "all")[0] - lab(b.colour, "all")[0]) > 10
    assert len(set(ORDERED)) == 9


def test_all_markers_of_a_figure_have_one_size(search):
    points = {name: [(x, Sample((x / 10,))) for x in (1.0, 2.0, 4.0)] for name in ("one", "two", "three")}
    for figure in (
        draw_hyperparameters(search.scores),
        draw_best_so_far(search.course, search.study.quantity("miss")),
        draw_pair(search.scores, ("width", "rate")),
        draw_points(points, Quantity("x"), Quantity("y"), "group"),
    ):
        parts = [part for axes in figure.axes for part in axes.get_children()]
        lines = [part for part in parts if getattr(part, "get_marker", str)() not in ("", "None", None)]
        sizes = [line.get_markersize() for line in lines]
        clouds = [part for part in parts if isinstance(part, PathCollection)]
        sizes += [size**0.5 for cloud in clouds for size in cloud.get_sizes()]
        assert len(set(sizes)) == 1 and len(sizes) > 1


def test_points_that_would_lie_on_each_other_are_set_apart():
    figure = draw_points(
        {name: [(1.0, Sample((2.0,))), (8.0, Sample((1.0, 1.2)))] for name in ("50 epochs", "10 s", "4.5 min per network")},
        Quantity("width", scale="log"), Quantity("loss", scale="log"), "budget",
    )  # fmt: skip
    figure.draw_without_rendering()
    (axes,) = figure.axes
    lines = [line for line in axes.get_children() if getattr(line, "get_marker", str)() in ("o", "s", "^")]
    first = [line.get_transform().transform(line.get_xydata())[0][0] for line in lines]
    assert len(first) == 3 and min(b - a for a, b in itertools.pairwise(first)) > 3
    assert overlaps([text.get_window_extent() for text in texts_at_ends(axes)]) == []
    assert "4.5 min per\nnetwork" in [text.get_text() for text in texts_at_ends(axes)]


# ---------------------------------------------------------------- units and scales


def test_a_share_is_in_per_cent_on_every_axis(search):
    figures = [picture.draw() for picture in pictures(search)]
    figures += [draw_simulated_searches([[0.5, 0.01]], [0.5, 0.01], 1, search.study.quantity("miss"))]
    found = 0
    for axis in (axis for figure in figures for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        label = axis.get_label().get_text().replace("\n", " ")
        if "missed" in label and not label.startswith("rank"):
            found += 1
            assert label.endswith("(%)") and axis.get_major_formatter()(0.0071) == "0.71"
    assert found >= 5
    for figure in (draw_pair(search.scores, ("width", "rate")), draw_parallel_coordinates(search.scores)):
        (bar,) = (axes for axes in figure.axes if axes.get_ylabel() == "rank: share missed")
        assert bar.get_yticklabels()[0].get_text() == "1: 0.71 %"


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(2.1e-4, 0.093, "log"), (1e-5, 1.0, "log"), (1e-8, 1e3, "log"), (1.2e-4, 9e-4, "linear"), (8e4, 80_300, "linear"),
     (0.1, 0.2, "log"), (8, 256, "log")],
)  # fmt: skip
def test_numbers_at_an_axis_do_not_touch(low, high, scale):
    """Even in the narrowest panels, three beside each other. Whole powers of ten are preferred."""
    figure, panels = new_figure(PAGE, 2.6, 1, 3, sharey=True)
    for panel in panels:
        panel.plot([low, high], [1.0, 2.0])
        dress(panel, "x", Column(Quantity("rate", scale=scale), [low, high]))
        dress(panel, "y", Column(Quantity("loss"), [1.0, 2.0]))
    figure.canvas.draw()
    for panel in panels:
        inside = panel.get_xlim()
        texts = [text for text in panel.get_xticklabels() if text.get_text()]
        boxes = [text.get_window_extent() for text in texts if inside[0] <= text.get_position()[0] <= inside[1]]
        assert len(boxes) >= 2 and overlaps([box.expanded(1.1, 1.0) for box in boxes]) == []
    said = {text.get_text() for text in texts}
    assert said >= {"0.001", "0.01", "0.1"} or low != 2.1e-4


def test_an_error_stands_there_in_place_of_the_accuracy_on_a_logarithmic_axis(search):
    figure = learning_curves_picture(search).draw()
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "share missed now (%)"]
    assert figure.axes[1].get_yscale() == "log"


def test_quantities_that_are_derived_from_settings_have_a_panel_of_their_own(search):
    (picture,) = (picture for picture in pictures(search) if picture.name == "hyperparameters")
    assert [axes.get_xlabel() for axes in picture.draw().axes if axes.get_visible()] == [
        "width",
        "rate",
        "kind",
        "pace",
    ]


def test_parallel_coordinates_have_a_colour_bar_and_texts_that_do_not_collide(search):
    figure = draw_parallel_coordinates(search.scores)
    figure.draw_without_rendering()
    assert any(axes.get_ylabel() == "rank: share missed" and len(axes.get_yticks()) == 5 for axes in figure.axes)
    names = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(names) == 4 and overlaps(names) == []
    for axes in figure.axes[1:]:
        low, high = sorted(axes.get_ylim())
        shown = [text for at, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True) if low <= at <= high]
        assert shown and overlaps([text.get_window_extent() for text in shown]) == []
    (lines,) = figure.axes[0].collections
    for line, (trial, _) in zip(lines.get_segments()[::-1], search.scored, strict=True):
        assert math.isclose(line[1][1], math.log(trial.settings["rate"] / 0.001) / math.log(1.3**23), abs_tol=1e-6)
        end = figure.axes[0].transData.transform(line[1])[1]
        assert math.isclose(end, figure.axes[2].transData.transform((1, trial.settings["rate"]))[1], abs_tol=0.01)


def test_of_more_trials_than_are_drawn_the_colours_are_ranks_among_all():
    trials = [
        trial_of(k, {"width": 1 + k % 64, "rate": 0.001 * 1.005**k, "kind": "a"}, [0.01 + k / 2000]) for k in range(900)
    ]
    results = Results.of(study_from_record(SEARCH, "test"), trials)
    for figure in (draw_pair(results.scores, ("width", "rate")), draw_parallel_coordinates(results.scores)):
        (bar,) = (axes for axes in figure.axes if axes.get_ylabel() == "rank: share missed")
        assert [label.get_text() for label in bar.get_yticklabels()][::4] == ["1: 1.00 %", "900: 45.95 %"]
        cloud = figure.axes[0].collections[0]
        colours = cloud.get_facecolors() if isinstance(cloud, PathCollection) else cloud.get_colors()
        assert len(colours) == 504 and np.ptp(colours[:, 1]) > 0.8


def test_a_grid_of_which_everything_collapsed_says_so():
    settings = [{"width": width, "rate": rate} for width in (1, 2) for rate in (0.1, 0.2)]
    study = study_from_record({**SEARCH, "strategy": "grid", "space": {"width": [1, 2], "rate": [0.1, 0.2]}}, "test")
    results = Results.of(study, [trial_of(k, each, [0.9 + k / 100], broken=True) for k, each in enumerate(settings)])
    assert [text.get_text() for text in draw_grid(results.grid("width", "rate")).axes[0].texts] == ["collapsed"] * 4


# ---------------------------------------------------------------- importance


def important(**predicted):
    shares = {"width": 0.7, "rate": 0.3}
    return Importance(42, 42, shares, {tuple(key.split("_")): share for key, share in predicted.items()})


def test_an_importance_below_0_is_shown_as_it_is(search):
    figure = draw_importance(search.study, important(width=-0.31, rate=0.2, width_rate=0.12))
    right = figure.axes[1]
    assert sorted(round(bar.get_width(), 2) for bar in right.patches) == [-0.31, 0.12, 0.2]
    assert right.get_xlim()[0] < -0.31 and "−0.31" in [text.get_text() for text in right.texts]
    assert "below 0: worse than the mean rank" in right.get_xlabel() and "out of bag" in right.get_xlabel()


def test_too_few_trials_for_importance_are_said_to_be_too_few(search):
    sure = draw_importance(search.study, important(width=0.1, rate=-0.2))
    unsure = draw_importance(search.study, important(width=-0.1, rate=-0.2))
    assert sure.get_suptitle() == ""
    assert unsure.get_suptitle().startswith("42 trials: too few to tell")
    assert {bar.get_facecolor() for bar in unsure.axes[0].patches} != {b.get_facecolor() for b in sure.axes[0].patches}
    search.__dict__["importance"] = important(width=-0.1, rate=-0.2)
    (picture,) = (picture for picture in pictures(search) if picture.name == "importance")
    assert picture.caption.startswith("Importance can't be told from 42 trials")


def test_the_caption_says_that_estimates_are_noisy(search):
    search.__dict__["importance"] = important(width=0.5, rate=-0.2, width_rate=0.2)
    (picture,) = (picture for picture in pictures(search) if picture.name == "importance")
    assert "out-of-bag" in picture.caption and "noisy" in picture.caption


def test_the_same_data_make_the_same_figure(search):
    def saved():
        file = io.BytesIO()
        draw_parallel_coordinates(search.scores).savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()

    assert saved() == saved()


@pytest.mark.parametrize("measures", [1, 2])
def test_the_legend_of_curves_is_whole(measures):
    """With many settings it has several lines, none of them longer than the figure is wide."""
    space = {f"hyperparameter_{k}": {"type": "float", "low": 0.0, "high": 1.0} for k in range(9)}
    study = {"name": "x", "strategy": "random", "trials": 3, "metric": "loss", "objective": "a:b", "space": space}
    epochs = [{"epoch": k, **{f"loss{m}": k / (m + 2) for m in range(measures)}} for k in (1, 2)]
    settings = dict.fromkeys(space, 0.123456)
    trials = [Trial(TrialName(k, 1, "seen"), settings, epochs=epochs, result={"loss": k}) for k in range(3)]
    figure = learning_curves_picture(Results.of(study_from_record(study, "x"), trials)).draw()
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    told = legend.get_texts()[0].get_text()
    assert "hyperparameter 8 0.1235)" in told and "hyperparameter 4 0.1235," in told and "…" not in told
