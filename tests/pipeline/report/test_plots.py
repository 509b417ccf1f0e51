"""Pictures: what is drawn are the numbers that went in, and every name as it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from vidclip.lexicons import load_lexicon
from vidclip.pipeline.heads import Epoch
from vidclip.pipeline.report import (
    confused_pairs,
    confusion_counts,
    confusion_map,
    correlation_maps,
    correlations,
    few_shot_curves,
    line_style,
    loss_curve,
    order_of_confusion,
    save_figure,
)

ODD = ("a $x_1$ name", "<b>bold</b> & more", "打太极拳", "under_score_", "$", "{}\\%", "bytes \udcff")
SVG = "{http://www.w3.org/2000/svg}"


def result(scorer, shots, mean, spread=1.0, *, n_classes=4, n_videos=20):
    return {
        "scorer": scorer,
        "settings": {"shots": shots},
        "figures": {"top1": {"mean": mean, "spread": spread}},
        "n_classes": n_classes,
        "n_videos": n_videos,
    }


def texts_of(path):
    return {element.text for element in ET.parse(path).iter(f"{SVG}text")}


def pictures_of(figure):
    """The matrices drawn."""
    return [np.asarray(panel.images[0].get_array().filled(np.nan)) for panel in figure.axes if panel.images]


# --- correlations


def test_correlations_are_cosines(rng):
    rows = rng.standard_normal((6, 9)) * rng.uniform(0.1, 50, (6, 1))
    expected = [[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for b in rows] for a in rows]
    np.testing.assert_allclose(correlations(rows), expected, atol=1e-6)


def test_correlation_maps_share_one_scale_and_show_each_matrix(rng):
    classifiers = {"text": rng.standard_normal((3, 8)) + 1, "random": rng.standard_normal((3, 8))}
    figure = correlation_maps(classifiers, ("a", "b", "c"))
    panels = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title(loc="left") for panel in panels] == ["text", "random"]
    for drawn, rows in zip(pictures_of(figure), classifiers.values(), strict=True):
        np.testing.assert_allclose(drawn, correlations(rows), atol=1e-6)
    off = np.concatenate([correlations(rows)[~np.eye(3, dtype=bool)] for rows in classifiers.values()])
    for panel in panels:
        assert panel.images[0].get_clim() == pytest.approx((off.min(), off.max()))
    with pytest.raises(ValueError, match="text has 3 rows, but there are 2 names"):
        correlation_maps(classifiers, ("a", "b"))
    with pytest.raises(ValueError, match="at least two"):
        correlation_maps({"text": np.ones((1, 3))}, ("a",))


# --- confusions


def test_confusion_counts_are_scikit_learns(rng):
    labels, predicted = rng.integers(5, size=200), rng.integers(5, size=200)
    labels[labels == 3] = 0  # a class without videos
    expected = confusion_matrix(labels, predicted, labels=range(5))
    np.testing.assert_array_equal(confusion_counts(predicted, labels, 5), expected)


def test_confusion_map_shows_shares_of_the_true_class():
    counts = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [2, 0, 8, 0], [0, 0, 0, 0]])
    figure = confusion_map(counts, ("a", "b", "c", "not there"), "title")
    (drawn,) = pictures_of(figure)
    # c is taken for a twice, a for b once; b has no video, and nothing is of or taken for the last class.
    np.testing.assert_allclose(drawn, [[80, 20, 0], [0, 75, 25], [np.nan] * 3])
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["c", "a", "b (no video)"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["c", "a", "b"]
    assert {text.get_text() for text in panel.texts} == {"80", "20", "75", "25"}
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("taken for", "true class")
    with pytest.raises(ValueError, match="2 names, but counts"):
        confusion_map(counts, ("a", "b"), "title")
    with pytest.raises(ValueError, match="no video"):
        confusion_map(np.zeros((2, 2), int), ("a", "b"), "title")


def test_a_share_that_is_not_all_is_not_said_to_be():
    counts = np.array([[999, 1], [0, 7]])
    panel = confusion_map(counts, ("a", "b"), "title").axes[0]
    assert sorted(text.get_text() for text in panel.texts) == ["100", "<1", ">99"]


def by_brute_force(counts):
    """The order in which classes come when the largest confusion is looked for again and again."""
    left, order = counts.astype(float), []
    np.fill_diagonal(left, 0)
    while left.max() > 0:
        i, j = divmod(
            int(left.argmax()), len(left)
        )  # of equal ones the first row, and in it the first column
        order += [c for c in (i, j) if c not in order]
        left[i, j] = 0
    rest = [c for c in range(len(counts)) if c not in order and (counts[c].any() or counts[:, c].any())]
    return order + rest


def test_the_most_confused_classes_come_first(rng):
    for _ in range(20):
        counts = rng.integers(0, 5, (12, 12)) * (rng.random((12, 12)) < 0.15)
        assert order_of_confusion(counts) == by_brute_force(counts)
        pairs = confused_pairs(counts)
        assert sum(n for *_, n in pairs) == counts.sum() - np.trace(counts)
        assert all(counts[i, j] == n and i != j for i, j, n in pairs)


def test_of_many_classes_the_most_confused_are_shown_and_rows_are_whole(rng):
    labels = np.repeat(np.arange(400), 10)
    wrong = rng.random(len(labels)) < 0.3
    predicted = np.where(wrong, (labels + rng.integers(1, 5, len(labels))) % 400, labels)
    counts = confusion_counts(predicted, labels, 400)
    figure = confusion_map(counts, [f"class {c}" for c in range(400)], "title", most=30)
    (drawn,) = pictures_of(figure)
    order = by_brute_force(counts)[:30]
    np.testing.assert_allclose(drawn[:, :30], 10 * counts[np.ix_(order, order)])
    np.testing.assert_allclose(drawn.sum(axis=1), 100)
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == [f"class {c}" for c in order]
    assert panel.get_xticklabels()[-1].get_text() == "any of the 370 other classes"


# --- few-shot


def test_few_shot_lines_and_bands_are_the_means_and_spreads():
    results = [
        result("text", 0, 40.0, None), result("text", "all", 90.0, 0.5), result("text", 16, 70.0, 2.0),
        result("linear", 16, 60.0, 4.0), result("linear", 2, 30.0, 3.0),
    ]  # fmt: skip
    panel = few_shot_curves(results).axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["0", "2", "16", "all"]
    lines = {line.get_label(): line for line in panel.lines}
    np.testing.assert_allclose(lines["text"].get_xydata(), [[0, 40], [2, 70], [3, 90]])
    np.testing.assert_allclose(lines["linear"].get_xydata(), [[1, 30], [2, 60]])
    np.testing.assert_allclose(lines["chance"].get_ydata(), 25)
    band = panel.collections[1].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(1, 27), (1, 33), (2, 56), (2, 64)}
    (single,) = few_shot_curves([result("lda", 2, 40.0, 3.0)]).axes
    (bar,) = (c for c in single.collections if c.get_paths() and len(c.get_paths()[0].vertices) == 2)
    np.testing.assert_allclose(bar.get_paths()[0].vertices[:, 1], [37, 43])
    assert panel.get_title(loc="left") == "few-shot: 20 test videos, 4 classes"


def test_few_shot_refuses_what_one_picture_cannot_show():
    with pytest.raises(ValueError, match="no results of the protocol few-shot"):
        few_shot_curves([])
    with pytest.raises(ValueError, match="two results of 'text' for 2 videos of a class"):
        few_shot_curves([result("text", 2, 40), result("text", 2, 41)])
    with pytest.raises(ValueError, match="over 4 and over 101 classes"):
        few_shot_curves([result("text", 2, 40), result("linear", 2, 41, n_classes=101)])


@pytest.mark.parametrize("heads", [1, 12])
def test_the_legend_stands_beside_the_lines(heads):
    figure = few_shot_curves([result(f"head {h}, vcs", k, 5.0 * h) for h in range(heads) for k in (1, 2)])
    figure.draw_without_rendering()
    legend, panel = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert legend.x0 >= panel.x1
    assert legend.x1 <= figure.bbox.x1
    lines = figure.axes[0].lines
    assert len({(line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}) == heads + 1, (
        "no two alike in gray print, nor like chance"
    )
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == heads + 1


def test_lines_are_told_apart_without_their_colors():
    styles = [line_style(index) for index in range(35)]
    assert len({(style["marker"], str(style["linestyle"])) for style in styles}) == 35
    assert len({(style["color"], str(style["linestyle"])) for style in styles}) == 35
    # Lightness of neighbors in a legend, by the weights of BT.601, as printers make gray.
    weights = np.array([0.299, 0.587, 0.114])
    gray = [weights @ [int(style["color"][i : i + 2], 16) for i in (1, 3, 5)] for style in styles[:7]]
    assert max(gray) < 200, "none too light for white paper"


# --- loss


def test_loss_curve_shows_the_losses_and_the_epoch_kept():
    epochs = [Epoch(1, 3.0, 10.0), Epoch(2, 2.0, 30.0), Epoch(3, 1.0, 20.0)]
    figure = loss_curve(epochs, 2, "a head")
    loss, held = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[1, 3], [2, 2], [3, 1]])
    np.testing.assert_allclose(held.lines[0].get_xydata(), [[1, 10], [2, 30], [3, 20]])
    assert list(loss.lines[1].get_xdata()) == [2, 2]
    assert loss.get_title(loc="left") == "a head; dashed: epoch 2, which was kept"
    (single,) = loss_curve([Epoch(1, 3.0, None)], 1, "a head").axes
    single.figure.draw_without_rendering()
    shown = [tick for tick in single.get_xticks() if 0.5 <= tick <= 1.5]
    assert shown == [1], "epochs are whole"


# --- files


def figures(names, rng):
    rows = rng.standard_normal((len(names), 16))
    counts = rng.integers(0, 9, (len(names), len(names)))
    yield "correlation", correlation_maps({"a $b$": rows, "text": rows + 1}, names)
    yield "confusion", confusion_map(counts, names, "head <x>: top-1 3 %", most=len(names))


def test_names_stand_in_an_svg_as_they_are(tmp_path, rng):
    for kind, figure in figures(ODD, rng):
        assert save_figure(figure, tmp_path / f"{kind}.svg") == ""
        shown = texts_of(tmp_path / f"{kind}.svg")
        assert {*ODD[:-1], "bytes \\udcff"} <= shown
    assert "a $b$" in texts_of(tmp_path / "correlation.svg")
    heads = [result(name, 1, 5) for name in ODD[:4]]
    save_figure(few_shot_curves(heads), tmp_path / "f.svg")
    assert set(ODD[:4]) <= texts_of(tmp_path / "f.svg")


def test_the_same_picture_is_the_same_file(tmp_path):
    for suffix in ("svg", "png", "pdf"):
        for number in range(2):
            for kind, figure in figures(ODD, np.random.default_rng(1)):
                save_figure(figure, tmp_path / f"{kind}{number}.{suffix}")
        for kind in ("correlation", "confusion"):
            assert (tmp_path / f"{kind}0.{suffix}").read_bytes() == (
                tmp_path / f"{kind}1.{suffix}"
            ).read_bytes()


def test_characters_that_no_font_has_are_told_and_not_warned_of(tmp_path, recwarn):
    names = ("plain", "private \U000f1234\U000f1234", "\U000f0001", "joined\u200d \ufe0f")
    figure = confusion_map(np.eye(4, dtype=int), names, "title")
    assert save_figure(figure, tmp_path / "c.png") == "\U000f0001\U000f1234"
    assert save_figure(figure, tmp_path / "c.pdf") == "\U000f0001\U000f1234"
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF-")
    assert save_figure(figure, tmp_path / "c.svg") == ""
    assert not recwarn.list
    assert save_figure(confusion_map(np.eye(2, dtype=int), ("a", "ü"), "t"), tmp_path / "d.png") == ""


@pytest.mark.parametrize("classes", [2, pytest.param(75, marks=pytest.mark.long), 101, 400])
def test_names_along_the_axes_do_not_overlap(tmp_path, rng, classes):
    names = load_lexicon("kinetics400").labels[:classes]
    for kind, figure in figures(names, rng):
        path = tmp_path / f"{kind}.png"
        save_figure(figure, path)
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 500
            assert max(picture.size) < 7000
        panel = figure.axes[0]
        labels = [label for label in panel.get_yticklabels() if label.get_text()]
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
        assert all(above.y0 >= below.y0 + below.height * 0.75 for below, above in pairwise(boxes))
        if classes <= 101:
            expected = [name if len(name) <= 40 else name[:39] + "…" for name in names]
            shown = [label.get_text() for label in labels]
            assert (shown if kind == "correlation" else sorted(shown)) == (
                expected if kind == "correlation" else sorted(expected)
            )
        else:
            assert len(labels) < 50, "numbers of classes, not 400 names"


def test_long_names_leave_room_for_the_map(tmp_path):
    names = ("a name of very many words " * 8, "short")
    figure = confusion_map(np.eye(2, dtype=int), names, "title")
    save_figure(figure, tmp_path / "c.png")
    panel = figure.axes[0].get_window_extent()
    assert panel.width > 0.4 * figure.bbox.width


def test_other_files_are_refused_and_nothing_is_left(tmp_path):
    figure = loss_curve([Epoch(1, 3.0, None)], 1, "a head")
    with pytest.raises(ValueError, match="pictures end in .png, .svg or .pdf"):
        save_figure(figure, tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError):
        save_figure(figure, tmp_path / "nowhere" / "x.png")
    save_figure(figure, tmp_path / "X.PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["X.PNG"]
