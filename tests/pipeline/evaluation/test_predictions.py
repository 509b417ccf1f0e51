"""Files of predictions, figures of classes, and comparisons of files: against csv, scipy and loops."""

from __future__ import annotations

import csv
import json
from collections import Counter

import numpy as np
import pytest
from scipy.stats import binomtest

from vidclip.lexicons import Lexicon
from vidclip.pipeline.evaluation import (
    EvaluationError,
    LabeledVideos,
    PredictionRow,
    class_figures,
    compare,
    compare_figures,
    compare_predictions,
    encode_predictions,
    evaluate,
    prediction_rows,
    read_predictions,
    wilson_interval,
)
from vidclip.pipeline.scoring import ArrayFeatures, MaxScorer, MeanScorer

LABELS = ('a "quoted", one', "line\nbreak\r", "=1+1", "tai\x1bchi", "打太极拳", "f", "g", "h")
LEXICON = Lexicon("eight", LABELS[4:] + tuple("abcd"), LABELS[4:] + tuple("abcd"))
HOSTILE = ('id "x", \n=1', "b\x1b[2J", "c", "\udcff.mp4")


@pytest.fixture(scope="module", params=["full-classes", "half-classes"])
def tested(request):
    """Results of two scorers on 60 videos of 8 classes, what was tested, and the source."""
    rng = np.random.default_rng(3)
    source = ArrayFeatures(rng.standard_normal((60, 1, 4, 16)), [f"v{i}" for i in range(60)])
    rows = rng.standard_normal((8, 16))
    test = LabeledVideos(np.arange(60)[::-1].copy(), rng.integers(8, size=60))
    results = evaluate(source, test, [MeanScorer(rows), MaxScorer(rows)], request.param, 8, keep=3)
    return results, test, source


def test_what_is_kept_is_what_the_scorers_say(tested):
    results, test, source = tested
    assert evaluate(source, test, [MeanScorer(np.eye(8, 16))], "full-classes", 8)[0].predictions == ()
    for result in results:
        for trial, (_, right) in zip(result.predictions, result.hits, strict=True):
            np.testing.assert_array_equal(trial.best[:, 0] == trial.labels, right)
            np.testing.assert_array_equal(trial.labels, test.targets[trial.videos])
            assert (np.diff(trial.scores, axis=1) <= 0).all()


def rows_of(tested, place):
    results, test, source = tested
    return list(prediction_rows(source, LEXICON, test, [results[place]]))


def hostile_rows():
    best = ((LABELS[0], 0.1 + 0.2), (LABELS[1], 1e-9))
    return [
        PredictionRow("p", "t", LABELS[2], id, label, 2, best)
        for id, label in zip(HOSTILE, LABELS, strict=False)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_files_give_back_what_was_written(tested, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"p{suffix}"
    rows = [*rows_of(tested, 0), *rows_of(tested, 1)]
    path.write_bytes(encode_predictions(path, rows))
    assert read_predictions(path) == rows
    odd = hostile_rows() if suffix != ".parquet" else hostile_rows()[:3]
    path.write_bytes(encode_predictions(path, odd))
    assert read_predictions(path) == odd


def test_csv_is_read_by_others(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(encode_predictions(path, hostile_rows()))
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *found = csv.reader(file)
    assert header[:8] == ["protocol", "trial", "scorer", "id", "label", "rank", "class1", "score1"]
    assert [row[3] for row in found] == list(HOSTILE)
    assert {len(row) for row in found} == {10}


def test_files_that_are_none_are_refused(tmp_path, monkeypatch):
    for name, text, message in [
        ("a.csv", "x,y\n1,2\n", "'protocol' is missing"),
        ("a.json", "[]", "no file of `vidclip eval --predictions`"),
        ("a.json", '{"format": "other"}', "its format is 'other'"),
        ("none.csv", None, "cannot be read: No such file"),
        ("a.xls", "", "must end in .csv, .json or .parquet"),
    ]:
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(EvaluationError, match=message):
            read_predictions(tmp_path / name)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(EvaluationError, match=r"pip install 'vidclip\[parquet\]'"):
        encode_predictions(tmp_path / "p.parquet", [])


@pytest.mark.parametrize(("right", "n"), [(0, 1), (3, 7), (10, 10), (123, 400)])
def test_the_interval_is_wilsons(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high))


def test_figures_of_classes_are_those_of_a_loop(tested):
    found = {each.label: each for each in class_figures(tested[0][0], LEXICON)}
    rows = rows_of(tested, 0)
    assert set(found) == {row.label for row in rows}
    for label, each in found.items():
        own = [row for row in rows if row.label == label]
        assert each.n == len(own)
        assert each.top1 == pytest.approx(100 * np.mean([row.rank == 1 for row in own]))
        wrong = Counter(row.best[0][0] for row in own if row.rank > 1)
        assert each.n_confused == wrong.get(each.confusion, 0) == max(wrong.values(), default=0)


def test_two_files_are_compared_as_two_results_are(tested):
    one, other = rows_of(tested, 0), rows_of(tested, 1)
    found = compare_predictions(one, other[::-1])
    expected = compare(tested[0][1], tested[0][0])
    assert found.comparison.difference == pytest.approx(expected.difference)
    assert (found.comparison.low, found.comparison.high) == pytest.approx(
        (expected.low, expected.high), abs=1.5
    )
    figures = [result.figures["top1"].mean for result in tested[0]]
    assert (found.top1_first, found.top1_second) == pytest.approx(figures)
    assert len(found.gained) == sum(a.rank > 1 == b.rank for a, b in zip(one, other, strict=True))
    assert len(found.lost) == sum(b.rank > 1 == a.rank for a, b in zip(one, other, strict=True))
    ranks = [a.rank for a, _ in found.gained]
    assert ranks == sorted(ranks, reverse=True)
    changed = [abs(each.second - each.first) * each.n for each in found.classes]
    assert changed == pytest.approx(sorted(changed, reverse=True))
    assert min(changed) > 0


def test_only_common_tests_of_one_label_are_paired(tested):
    one, other = rows_of(tested, 0), rows_of(tested, 1)
    found = compare_predictions(one[:40], other[10:])
    assert (found.n, found.n_only_first, found.n_only_second) == (30, 10, len(other) - 40)
    with pytest.raises(EvaluationError, match="no test of a video in common"):
        compare_predictions(one[:5], other[5:])
    from dataclasses import replace

    with pytest.raises(EvaluationError, match="1 videos have another label"):
        compare_predictions(one, [replace(other[0], label="z"), *other[1:]])


def test_figures_alone_are_compared_as_of_independent_tests():
    def document(mean, low, high):
        figures = {"top1": {"mean": mean, "low": low, "high": high}, "mean_class": {"mean": mean, "low": None, "high": None}}  # fmt: skip
        return json.loads(json.dumps([{"protocol": "full-classes", "results": [{"scorer": "mean", "settings": {}, "figures": figures}]}]))  # fmt: skip

    top1, mean_class = compare_figures(document(50, 47, 54), document(60, 56, 63))
    assert top1.interval == pytest.approx((10 - np.hypot(4, 4), 10 + np.hypot(3, 3)))
    assert mean_class.interval is None
    with pytest.raises(EvaluationError, match="no figure in common"):
        compare_figures(document(1, 0, 2), [])
    with pytest.raises(EvaluationError, match="no result of `vidclip eval"):
        compare_figures(document(1, 0, 2), [{"protocol": 1}])
