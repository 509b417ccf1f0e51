"""Videos with any number of labels: what is tested, and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from helpers import a_record, an_identity
from vidclip.cache import CacheWriter, FeatureCache, MissingVideo, write_missing
from vidclip.lexicons import Lexicon
from vidclip.pipeline.evaluation import (
    EvaluationError,
    compare,
    evaluate,
    evaluate_multi_label,
    multi_label_metrics,
    released_convention,
    select_videos,
)
from vidclip.pipeline.evaluation.multi_label import chance
from vidclip.pipeline.scoring import FusionScorer, MaxScorer, MeanScorer, VoteScorer

NAMES = ("a", "b", "c", "never")
CLASSES = Lexicon("four", NAMES, NAMES)


@pytest.fixture
def sentence(rng):
    return rng.standard_normal((4, 16)).astype(np.float32)


@pytest.fixture
def cache(write_cache, rng, sentence):
    """60 videos near the mean of their classes' sentences; every seventh has none, none has the last."""
    records = []
    for i in range(60):
        has = [] if i % 7 == 0 else [int(c) for c in rng.permutation(3)[: 1 + i % 3]]
        near = sentence[has].sum(axis=0) if has else 0
        frames = near + 3 * rng.standard_normal((1, 4, 16))
        labels = tuple(NAMES[c] for c in has)
        record = a_record(f"{i:02}", rng, labels=labels, split="test" if i % 4 else "train")
        records.append(type(record)(**{**vars(record), "frames": frames.astype(np.float32)}))
    return FeatureCache(write_cache(records))


def by_hand(cache, rows, sentence):
    """Cosines of the mean frame [n, C], and which classes each video has."""
    frames = cache.frames(rows).astype(np.float64)[:, 0]
    video = frames.mean(axis=1)
    scores = video @ sentence.T / np.linalg.norm(video, axis=1)[:, None] / np.linalg.norm(sentence, axis=1)
    return scores, np.array([[name in cache.labels[row] for name in NAMES] for row in rows])


def test_map_and_top_1_equal_scikit_learn(cache, sentence):
    test = select_videos(cache, CLASSES, multi_label=True)
    scores, truth = by_hand(cache, test.indices, sentence)
    np.testing.assert_array_equal(test.targets, truth)
    (result,) = evaluate_multi_label(cache, test, [MeanScorer(sentence)])
    areas = [average_precision_score(truth[:, c], scores[:, c]) for c in range(3)]
    assert result.figures["map"].mean == pytest.approx(100 * np.mean(areas))
    labeled = truth.any(axis=1)
    hits = truth[np.arange(len(truth)), scores.argmax(axis=1)][labeled]
    assert result.figures["top1"].mean == pytest.approx(100 * hits.mean())
    for figure in result.figures.values():
        assert 0 <= figure.low < figure.mean < figure.high <= 100
    document = result.to_dict()
    assert set(document["figures"]) == {"map", "top1"}
    assert document["repetitions"][0]["n_unlabeled"] == (~labeled).sum()
    assert document["settings"]["chance"]["top1"] == pytest.approx(100 * truth[labeled].mean())


def meter(scores, truth):
    """The mAP meter of the released scripts, position by position: sorted by score, equal scores in the order of
    the videos; a class without positives scores 0."""
    areas = []
    for c in range(scores.shape[1]):
        order = sorted(range(len(scores)), key=lambda n: -float(scores[n, c]))
        found, precisions = 0, []
        for place, n in enumerate(order, start=1):
            if truth[n, c]:
                found += 1
                precisions.append(found / place)
        areas.append(sum(precisions) / len(precisions) if precisions else 0.0)
    return 100 * sum(areas) / len(areas)


def released_rankings(cosines, convention, view_average):
    """test_charades.py of BIKE and test_anet.py of Text4Vis, on cosines [n, V, C] of BIKE or [n, 1, C]: float32."""
    scores = torch.tensor(cosines, dtype=torch.float32)
    scores = torch.softmax(scores if view_average == "unscaled" else 100 * scores, -1).mean(1)
    scores = torch.softmax(scores, -1)
    if convention == "released-activitynet" and view_average == "unscaled":
        scores = torch.softmax(scores, -1)
    return scores.numpy()


@pytest.mark.parametrize("convention", ["released-charades", "released-activitynet"])
@pytest.mark.parametrize("view_average", ["unscaled", "features"])
def test_the_released_map_is_that_of_the_scripts(cache, sentence, convention, view_average, monkeypatch):
    monkeypatch.setattr("vidclip.pipeline.evaluation.multi_label.RELEASED_BATCH", 12)
    test = select_videos(cache, CLASSES, multi_label=True)
    if view_average == "features":
        # Classes that are alike, as real ones are: few probabilities are so small that float32 decides on ties.
        sentence = (4 * sentence.mean(axis=0) + 0.3 * sentence).astype(np.float32)
    cosines, truth = by_hand(cache, test.indices, sentence)
    ranked = released_rankings(cosines[:, None], convention, view_average)
    expected = meter(ranked, truth)
    if convention == "released-charades":
        drawn = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0)).tolist()
        total = 0.0
        for start in range(0, len(truth), 12):
            so_far, step = drawn[: start + 12], drawn[start : start + 12]
            total += meter(ranked[so_far], truth[so_far]) * len(step)
        expected = total / len(truth)
        assert expected != pytest.approx(meter(ranked, truth), abs=0.5), "the running mean differs"
    scorer = MeanScorer(sentence, view_average=view_average)
    (result,) = evaluate_multi_label(cache, test, [scorer], convention=convention)
    assert result.figures["map"].mean == pytest.approx(expected, abs=1e-3)
    assert result.repetitions[0][1].map == result.figures["map"].mean
    assert result.figures["map"].low < result.figures["map"].mean < result.figures["map"].high
    (standard,) = evaluate_multi_label(cache, test, [scorer])
    assert abs(result.figures["map"].mean - standard.figures["map"].mean) > 1, "one class has no video"
    assert result.settings["map_convention"] == convention


def test_the_released_softmaxes_make_ties(write_cache, rng):
    """Probabilities of 1e-10 to 1e-9: their softmax is one number in float32, and not in float64; the order decides."""
    first, second, third = np.eye(16)[:3]
    records = []
    for i, share in enumerate(np.linspace(0, 0.1, 6)):
        record = a_record(str(i), rng, labels=("a",) if i > 2 else ("b",))
        frame = -first + share * second
        records.append(
            type(record)(**{**vars(record), "frames": np.tile(frame, (1, 4, 1)).astype(np.float32)})
        )
    cache = FeatureCache(write_cache(records))
    test = select_videos(cache, Lexicon("two", ("a", "b"), ("a", "b")), multi_label=True)
    scorer = MeanScorer(np.stack([-0.77 * first + 0.2 * second + 0.6 * third, -first]).astype(np.float32))
    (standard,) = evaluate_multi_label(cache, test, [scorer])
    (released,) = evaluate_multi_label(cache, test, [scorer], convention="released-activitynet")
    assert standard.figures["map"].mean == 100
    ties = meter(np.zeros((6, 2)), test.targets)
    assert ties < 90
    assert released.figures["map"].mean == pytest.approx(ties)


def test_the_script_of_a_data_set():
    assert released_convention("charades") == "released-charades"
    assert released_convention("activitynet") == "released-activitynet"


@pytest.mark.parametrize("convention", ["standard", "released"])
def test_chance_is_what_random_scores_reach(convention, rng):
    """Also with few videos, where it lies far above the share of positives."""
    targets = np.zeros((6, 4), bool)
    targets[:2, 0] = targets[0, 1] = targets[1:5, 2] = True
    named = "released-activitynet" if convention == "released" else convention
    reached = chance(targets, named)
    found = [
        multi_label_metrics(rng.random((6, 4)), targets, released=convention == "released")
        for _ in range(4_000)
    ]
    assert reached["map"] == pytest.approx(np.mean([metrics.map for metrics in found]), rel=0.03)
    assert reached["top1"] == pytest.approx(np.mean([metrics.top1 for metrics in found]), rel=0.05)


def test_all_scorers_and_pieces_give_the_scores_of_one_pass(cache, sentence, monkeypatch):
    mean, vote = MeanScorer(sentence), VoteScorer(sentence)
    scorers = [mean, MaxScorer(sentence), vote, FusionScorer(mean, vote, 0.6)]
    test = select_videos(cache, CLASSES, multi_label=True)
    whole = evaluate_multi_label(cache, test, scorers)
    monkeypatch.setattr("vidclip.pipeline.scoring.source.BATCH_VIDEOS", 7)
    for one, other in zip(whole, evaluate_multi_label(cache, test, scorers), strict=True):
        assert one.figures == other.figures
    assert [result.scorer for result in whole] == ["mean", "max", "vote", "mean + vote (0.6)"]


def test_small_probabilities_make_no_ties(write_cache, rng):
    """At a temperature of 0.01, probabilities of a class go down to 1e-87: float32 would call most of them 0."""
    first, second = np.eye(16)[0], np.eye(16)[1]
    records = []
    for i, share in enumerate(np.linspace(0, 0.3, 6)):
        record = a_record(str(i), rng, labels=("a",) if i > 2 else ())
        frame = -first + share * second
        records.append(
            type(record)(**{**vars(record), "frames": np.tile(frame, (1, 4, 1)).astype(np.float32)})
        )
    cache = FeatureCache(write_cache(records))
    sentence = np.stack([first + 0.2 * second, -first]).astype(np.float32)
    (result,) = evaluate_multi_label(
        cache,
        select_videos(cache, Lexicon("two", ("a", "b"), ("a", "b")), multi_label=True),
        [VoteScorer(sentence)],
    )
    assert result.figures["map"].mean == 100


def test_comparisons_are_paired(cache, sentence, rng):
    test = select_videos(cache, CLASSES, "all", multi_label=True)
    noisy = MeanScorer(sentence + rng.standard_normal(sentence.shape).astype(np.float32), "noisy")
    good, same, worse = evaluate_multi_label(
        cache, test, [MeanScorer(sentence), MeanScorer(3 * sentence, "same"), noisy]
    )
    nothing = compare(same, good)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    found = compare(worse, good)
    assert found.metric == "map"
    assert found.difference == pytest.approx(worse.figures["map"].mean - good.figures["map"].mean)
    assert found.low < found.difference < found.high
    alone = [result.figures["map"].high - result.figures["map"].low for result in (worse, good)]
    assert found.high - found.low < sum(alone), "paired: less than the two intervals together"
    assert (found.p < 0.05) == (found.high < 0)
    back = compare(good, worse)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-found.difference, -found.high, -found.low)
    )
    (elsewhere,) = evaluate_multi_label(
        cache, select_videos(cache, CLASSES, "test", multi_label=True), [MeanScorer(sentence)]
    )
    with pytest.raises(EvaluationError, match="did not test the same videos"):
        compare(elsewhere, good)
    (fewer,) = evaluate_multi_label(cache, test, [noisy], repeats=10)
    with pytest.raises(EvaluationError, match="not resampled alike"):
        compare(fewer, good)


def test_with_one_label_each_top_1_is_that_of_full_classes(write_cache, rng, sentence):
    records = [a_record(f"{i:02}", rng, labels=(NAMES[i % 3],)) for i in range(30)]
    cache = FeatureCache(write_cache(records))
    scorer = MeanScorer(sentence)
    (several,) = evaluate_multi_label(cache, select_videos(cache, CLASSES, multi_label=True), [scorer])
    (single,) = evaluate(cache, select_videos(cache, CLASSES), [scorer], "full-classes", 4)
    assert several.figures["top1"] == single.figures["top1"]
    assert compare(several, several).difference == 0


def test_what_is_tested_is_said(cache, rng, write_cache):
    notes = "\n".join(select_videos(cache, CLASSES, multi_label=True).notes)
    unlabeled = sum(not cache.labels[row] for row in select_videos(cache, CLASSES, multi_label=True).indices)
    assert f"{unlabeled} videos without a label are negatives" in notes
    assert "1 classes have no video here" in notes
    assert len(select_videos(cache, CLASSES, "all", multi_label=True).indices) == 60
    with pytest.raises(EvaluationError, match="has test, train, not 'val'"):
        select_videos(cache, CLASSES, "val", multi_label=True)
    with pytest.raises(EvaluationError, match="'a' is not in the lexicon"):
        select_videos(cache, Lexicon("other", ("x",), ("x",)), multi_label=True)
    none = FeatureCache(write_cache([a_record("1", rng, split="test")], "none"))
    with pytest.raises(EvaluationError, match="none of the 1 videos of .* in the split test has a label"):
        select_videos(none, CLASSES, multi_label=True)


# --- which videos single-label protocols take of such caches


def test_single_label_protocols_send_the_user_here(cache):
    with pytest.raises(
        EvaluationError, match=r"several labels \(the first is '01'\).*--protocol multi-label"
    ):
        select_videos(cache, CLASSES)


def test_few_videos_of_several_labels_are_left_out_and_counted(write_cache, rng):
    """ActivityNet: nearly all videos have one label."""

    def records(n_several):
        return [a_record(f"{i:02}", rng, labels=("a", "b") if i < n_several else ("a",)) for i in range(40)]

    test = select_videos(FeatureCache(write_cache(records(2), "few")), CLASSES)
    assert len(test.indices) == 38
    assert "2 videos with several labels are not tested (the first is '00')" in test.notes[0]
    assert len(test.notes) == 1, "they are not called videos without a label"
    with pytest.raises(EvaluationError, match="3 videos have several labels"):
        select_videos(FeatureCache(write_cache(records(3), "more")), CLASSES)


def test_splits_by_number_are_named_and_all_takes_every_video(write_cache, rng):
    splits = ["train1 test2 train3", "test1 train2 train3", "train1 train2 test3"]
    cache = FeatureCache(
        write_cache([a_record(str(i), rng, labels=("a",), split=splits[i % 3]) for i in range(9)])
    )
    with pytest.raises(
        EvaluationError,
        match=r"has the splits test1, test2, test3, train1, train2, train3: say which to test with --split; "
        r"--split all tests every labeled video; --protocol splits tests test1, test2, test3\.",
    ):
        select_videos(cache, CLASSES)
    assert select_videos(cache, CLASSES, "test1").indices.tolist() == [1, 4, 7]
    assert select_videos(cache, CLASSES, "train1").indices.tolist() == [0, 2, 3, 5, 6, 8]
    assert len(select_videos(cache, CLASSES, "all").indices) == 9
    by_split = select_videos(cache, CLASSES, by_split_sets=True).split_sets
    assert {name: rows.tolist() for name, rows in by_split.items()} == {
        "test1": [1, 4, 7],
        "test2": [0, 3, 6],
        "test3": [2, 5, 8],
    }
    with pytest.raises(EvaluationError, match=r"not 'test'\. Name one of these as the split, or all"):
        select_videos(cache, CLASSES, "test")


def test_a_split_called_all_is_that_split(write_cache, rng):
    cache = FeatureCache(
        write_cache([a_record(str(i), rng, labels=("a",), split="all" if i else "") for i in range(3)])
    )
    chosen = select_videos(cache, CLASSES, "all")
    assert (chosen.indices.tolist(), chosen.split) == ([1, 2], "all")


def test_a_test_split_without_labels_is_passed_over(write_cache, rng):
    """ActivityNet, Kinetics and Something-Something keep the labels of their test videos to themselves."""
    records = [a_record("1", rng, split="test"), a_record("2", rng, labels=("a",), split="val")]
    test = select_videos(FeatureCache(write_cache(records)), CLASSES)
    assert (test.split, test.indices.tolist()) == ("val", [1])
    assert "no video of the split test has a label: the split val is tested" in test.notes[0]
    # The twin: with a label it is tested, and nothing is said.
    records[0] = a_record("1", rng, labels=("b",), split="test")
    test = select_videos(FeatureCache(write_cache(records, "labeled")), CLASSES)
    assert (test.split, list(test.notes)) == ("test", [])


def test_missing_videos_of_the_split_are_counted(tmp_path, rng):
    with CacheWriter(tmp_path, an_identity()) as writer:
        for name, split in (("1", "test1"), ("2", "train1"), ("back", "test1")):
            writer.add(a_record(name, rng, labels=("a",), split=split))
    missing = [
        MissingVideo("gone", "test1 train2"),
        MissingVideo("lost", "train1"),
        MissingVideo("back", "test1"),
    ]
    write_missing(tmp_path, missing)
    cache = FeatureCache(tmp_path)
    assert [video.id for video in cache.missing()] == ["gone", "lost"], "what is there now is not missing"
    for multi_label in (False, True):
        notes = select_videos(cache, CLASSES, "test1", multi_label=multi_label).notes
        (note,) = [note for note in notes if "were missing" in note]
        assert note.startswith("not tested: 1 of the listed videos that were missing")
        assert "'gone'" in note
    assert "2 of the listed videos" in "\n".join(select_videos(cache, CLASSES, "all").notes)
    write_missing(tmp_path, [])
    assert not (tmp_path / "missing.jsonl").exists()
