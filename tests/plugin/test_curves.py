"""The curves of a training: what is drawn of what is told, how often, and that nothing of it stays behind."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from pyqtgraph import InfiniteLine
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QApplication, QWidget

from napari_swipe.qt.layouts import LEAST_CONTRAST, Ink, contrast, ink_of
from napari_swipe.train.curves import (
    MOST_POINTS,
    NO_VALIDATION,
    NOTHING_YET,
    VALIDATION_TO_COME,
    CurvesPlot,
    log_words,
)
from napari_swipe.train.history import History, smoothed, thinned

# As log.jsonl has them.
RECORDS = [
    {"kind": "session", "step": 0, "device": "cpu"},
    {"kind": "step", "step": 10, "steps": 40, "losses": {"total": 0.9, "patch": 0.8}, "minutes": 0.5},
    {"kind": "step", "step": 20, "steps": 40, "losses": {"total": 0.5, "patch": 0.4}, "minutes": 1.0},
    {
        "kind": "validation",
        "step": 20,
        "minutes": 1.0,
        "dice": {"one": 0.6, "two": 0.4},
        "mean_dice": 0.5,
        "is_best": True,
    },
    {"kind": "session", "step": 20, "device": "cpu"},
    {"kind": "step", "step": 30, "steps": 40, "losses": {"total": 0.4, "patch": 0.3}, "minutes": 1.5},
    {
        "kind": "validation",
        "step": 40,
        "minutes": 2.0,
        "dice": {"one": 0.5, "two": 0.3},
        "mean_dice": 0.4,
        "is_best": False,
    },
]


@pytest.fixture
def plot(qtbot) -> CurvesPlot:
    """A plot that is seen."""
    plot = CurvesPlot()
    qtbot.addWidget(plot)
    plot.resize(360, 420)
    plot.show()
    qtbot.waitExposed(plot)
    qtbot.waitUntil(lambda: plot.redraws == 1)
    return plot


def drawn(qtbot, plot: CurvesPlot) -> CurvesPlot:
    """The plot after its next redraw."""
    before = plot.redraws
    qtbot.waitUntil(lambda: plot.redraws > before)
    return plot


def panels(plot: CurvesPlot) -> tuple:
    assert plot._panels is not None
    return plot._panels


def step(minutes: float, number: int, loss: float) -> dict:
    return {"kind": "step", "step": number, "losses": {"total": loss}, "minutes": minutes}


def items(panel) -> dict:
    """The curves of a panel by name."""
    return {item.name(): item for item in panel.listDataItems()}


# What is drawn


@pytest.mark.parametrize("count", [1, 2, 79, 80, 800, 1001])
def test_smoothing_leaves_a_straight_line_as_it_is_up_to_its_ends(count):
    line = np.linspace(3.0, -2.0, count)
    np.testing.assert_allclose(smoothed(line), line, atol=1e-12)


def test_smoothing_calms_noise_to_its_mean():
    noise = np.random.default_rng(0).normal(1.0, 0.5, 4000)
    assert smoothed(noise)[100:-100].std() < 0.1
    assert smoothed(noise).mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 20_000])
def test_thinning_keeps_the_last_point_and_even_steps(count):
    kept = thinned(count, 500)
    assert len(kept) <= 500
    assert len(set(np.diff(kept))) <= 1
    assert count == 0 or (kept[-1] == count - 1 and len(kept) >= min(count, 250))


def test_the_records_of_a_log_become_curves_and_a_session_that_goes_on_a_mark():
    history = History()
    history.add(RECORDS)
    assert history.losses == [0.9, 0.5, 0.4]
    assert history.along("minutes").tolist() == [0.5, 1.0, 1.5]
    assert history.along("steps").tolist() == [10, 20, 30]
    assert [validation.mean for validation in history.validations] == [0.5, 0.4]
    assert history.best is history.validations[0]
    assert [(moment.minutes, moment.step) for moment in history.resumed] == [(1.0, 20)]
    assert (history.end("minutes"), history.end("steps")) == (2.0, 40)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_passed_over(loss):
    history = History()
    history.add([step(1.0, 1, loss)])
    assert not history.losses


@pytest.mark.parametrize("low, high", [(-0.7, 0.0), (-0.75, -0.2), (-3.0, 0.5), (-6.0, 2.0), (-1.05, -0.95)])
def test_words_of_a_logarithmic_axis_say_where_they_are_and_have_room(low, high):
    ticks = [decade + math.log10(digit) for decade in range(-7, 3) for digit in range(1, 10)]
    ticks = [tick for tick in ticks if low < tick < high]
    words = dict(zip(ticks, log_words(ticks), strict=True))
    shown = {tick: word for tick, word in words.items() if word}
    for tick, word in shown.items():
        assert float(word) == pytest.approx(10**tick, rel=1e-3)
    assert 1 <= len(shown) <= 9


@pytest.mark.parametrize("ground, text", [("#23242b", "#f0f1f2"), ("#ebe7e6", "#1e1e21")])
@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#777777", "#ffbb00", "#0000ff"])
def test_a_class_colour_stands_out_in_any_theme(ground, text, colour):
    ink = Ink(*map(QColor, (ground, text, text, text, text)))
    assert contrast(ink.readable(colour), ink.background) >= LEAST_CONTRAST


def test_a_class_colour_that_stands_out_is_left_alone():
    ink = Ink(*map(QColor, ("#23242b", "#f0f1f2", "#f0f1f2", "#f0f1f2", "#f0f1f2")))
    assert ink.readable("#ffbb00") == QColor("#ffbb00")


# What is told


def test_without_a_training_a_sentence_stands_there_alone(plot):
    assert plot.sentence.text() == NOTHING_YET
    assert not plot.along.isVisible()
    assert plot._panels is None


def test_losses_alone_are_drawn_with_a_sentence_instead_of_dice(plot, qtbot):
    plot.add(step(0.5, 10, 0.75))
    loss, dice = panels(drawn(qtbot, plot))
    assert loss.isVisible() and not dice.isVisible()
    assert plot.sentence.text() == NO_VALIDATION
    assert "0.75" in plot.loss_caption.text()
    plot.expect_validation(True)
    assert drawn(qtbot, plot).sentence.text() == VALIDATION_TO_COME


def test_a_validation_brings_the_second_plot_with_every_class_and_the_best(plot, qtbot):
    plot.load(RECORDS)
    loss, dice = panels(drawn(qtbot, plot))
    assert loss.isVisible() and dice.isVisible() and not plot.sentence.isVisible()
    words = plot.dice_caption.text().replace("&nbsp;", " ")
    for part in ("mean 0.400", "one 0.500", "two 0.300", "best 0.500 at 1.0 min"):
        assert part in words
    assert items(dice).keys() == {"mean", "one", "two", "best"}
    assert [line.value() for line in dice.items() if isinstance(line, InfiniteLine)] == [1.0]


def test_the_curves_of_the_classes_have_the_colours_of_the_scheme(plot, qtbot):
    plot.set_class_colours({"one": "#ff00ff", "two": "#00ffff"})
    plot.load(RECORDS)
    _, dice = panels(drawn(qtbot, plot))
    ink = ink_of(plot)
    for name, colour in plot.class_colours.items():
        assert QColor(items(dice)[name].opts["pen"]["color"]) == ink.readable(colour)
        assert ink.readable(colour).name() in plot.dice_caption.text()


def test_one_class_is_drawn_once_under_its_name(plot, qtbot):
    plot.add(
        {
            "kind": "validation",
            "step": 10,
            "minutes": 1.0,
            "dice": {"polyp <1>": 0.25},
            "mean_dice": 0.25,
            "is_best": True,
        }
    )
    _, dice = panels(drawn(qtbot, plot))
    assert "polyp &lt;1&gt;&nbsp;0.250" in plot.dice_caption.text()
    assert items(dice).keys() == {"polyp <1>", "best"}


def test_minutes_and_steps_are_two_ways_to_see_the_same(plot, qtbot):
    plot.load(RECORDS)
    loss, _ = panels(drawn(qtbot, plot))
    assert items(loss)["loss"].getData()[0].tolist() == [0.5, 1.0, 1.5]
    plot.along.setCurrentIndex(1)
    drawn(qtbot, plot)
    assert items(loss)["loss"].getData()[0].tolist() == [10, 20, 30]
    assert "best&nbsp;0.500 at&nbsp;step&nbsp;20" in plot.dice_caption.text()


def test_a_logarithmic_axis_takes_a_loss_of_zero(plot, qtbot):
    plot.logarithmic.setChecked(True)
    plot.add(step(1.0, 10, 0.1))
    plot.add(step(2.0, 20, 0.0))
    loss, _ = panels(drawn(qtbot, plot))
    np.testing.assert_allclose(items(loss)["loss"].getData()[1], [-1, -6])


def test_clear_forgets_everything(plot, qtbot):
    plot.load(RECORDS)
    drawn(qtbot, plot)
    plot.load()
    loss, dice = panels(drawn(qtbot, plot))
    assert plot.sentence.text() == NOTHING_YET
    assert not loss.isVisible() and not dice.isVisible()
    plot.add(step(0.5, 10, 0.75))
    drawn(qtbot, plot)
    assert loss.isVisible() and not dice.isVisible()
    assert items(loss).keys() == {"reports", "loss"}


# What it costs


def test_thousands_of_reports_make_one_redraw_of_few_points(plot, qtbot):
    for number in range(5000):
        plot.add(step(number / 100, number, 1 / (number + 1)))
    assert plot.redraws == 1
    drawn(qtbot, plot)
    assert plot.redraws == 2
    for name in ("loss", "reports"):
        assert len(items(panels(plot)[0])[name].getData()[0]) <= MOST_POINTS


def test_nothing_is_drawn_while_nobody_sees_it_and_all_of_it_afterwards(plot, qtbot):
    plot.hide()
    plot.load(RECORDS)
    assert not plot._timer.isActive()
    plot.show()
    assert panels(drawn(qtbot, plot))[0].isVisible()


def test_pyqtgraph_is_imported_with_the_first_curve_and_not_before():
    code = (
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari_swipe.train.curves import CurvesPlot\n"
        "plot = CurvesPlot()\n"
        "plot._redraw()\n"
        "import sys\n"
        "print({'pyqtgraph', 'torch', 'matplotlib', 'scipy'} & set(sys.modules))\n"
        "plot.add({'kind': 'step', 'step': 1, 'minutes': 1, 'losses': {'total': 1}})\n"
        "plot._redraw()\n"
        "print('pyqtgraph' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["set()", "True"]


# What it leaves behind


def test_pyqtgraph_keeps_its_own_options(plot, qtbot):
    import pyqtgraph

    before = dict(pyqtgraph.CONFIG_OPTIONS)
    plot.load(RECORDS)
    drawn(qtbot, plot)
    assert before == pyqtgraph.CONFIG_OPTIONS


def test_the_plot_goes_with_what_it_stands_in(qtbot):
    before = set(QApplication.topLevelWidgets())
    parent = QWidget()
    plot = CurvesPlot(parent)
    parent.show()
    plot.show()
    plot.load(RECORDS)
    drawn(qtbot, plot)
    with qtbot.waitSignal(plot.destroyed):
        plot.add(step(3.0, 60, 0.3))  # a redraw is due
        parent.close()
        parent.deleteLater()
    qtbot.wait(300)
    assert not set(QApplication.topLevelWidgets()) - before


def test_the_plot_has_the_colours_of_the_theme(viewer, qtbot):
    plot = CurvesPlot()
    viewer.window.add_dock_widget(plot, name="Curves")
    plot.load(RECORDS)
    drawn(qtbot, plot)
    for theme, is_dark in (("light", False), ("dark", True)):
        viewer.theme = theme
        drawn(qtbot, plot)
        ground = panels(plot)[0].backgroundBrush().color()
        assert (ground.lightness() < 128) == is_dark
        assert contrast(ink_of(plot).accent, ground) >= LEAST_CONTRAST
