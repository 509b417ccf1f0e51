"""A predictor says what `evaluate` scores, bit for bit, with probabilities that can be believed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from helpers import save_video, write_noisy_world
from vidclip.cache import FeatureCache
from vidclip.lexicons import Lexicon, load_lexicon
from vidclip.pipeline.choices import POOLS
from vidclip.pipeline.datasets import read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.evaluation import (
    EvaluationError,
    ScoringSettings,
    build_scorers,
    head_predictor,
    select_videos,
    video_fingerprints,
    zero_shot_predictor,
)
from vidclip.pipeline.extraction import extract
from vidclip.pipeline.heads import HeadConfig, StoredHead, VideoHead
from vidclip.pipeline.scoring import scan_scores
from vidclip.pipeline.video import Sampling

NAMES = load_lexicon("demo-classes").labels[:6]
LEXICON = Lexicon("six", NAMES, NAMES)


def world(folder, views=1):
    videos = [(f"{split}{c}{i}", name, split) for split in ("val", "test") for c, name in enumerate(NAMES) for i in range(10)]  # fmt: skip
    return FeatureCache(write_noisy_world(folder, videos, noise=3.0 * views, views=views))


@pytest.fixture(scope="module", params=[1, 2])
def cache(tmp_path_factory, request):
    return world(tmp_path_factory.mktemp("world") / "features", request.param)


@pytest.fixture(scope="module")
def stored(cache):
    videos, labels = cache.frames().astype(float).mean(axis=(1, 2)), np.array(cache.labels)[:, 0]
    rows = np.stack([videos[labels == name][:2].mean(axis=0) for name in NAMES[::-1]])
    head = VideoHead(HeadConfig("linear", "mean"), rows, cache.shape[3], 4)
    return StoredHead(head, cache.identity, NAMES[::-1], {"temperature": 0.2, "prompts": ["{}"]})


@pytest.mark.parametrize("pool", POOLS)
def test_scores_are_those_of_eval_bit_for_bit(cache, pool):
    settings = ScoringSettings(pools=(pool,))
    test = select_videos(cache, LEXICON, "test")
    (scorer,) = build_scorers(cache, LEXICON, settings)
    ((places, (similarities,)),) = scan_scores(cache, [scorer], test.indices)
    scores = scorer.scores(similarities, np.arange(6))[np.argsort(places)]
    found = zero_shot_predictor(cache, LEXICON, settings).predict(cache, "test", top=6)
    assert [each.id for each in found] == [cache.ids[i] for i in test.indices]
    for row, each in zip(scores, found, strict=True):
        own = {guess.label: guess.score for guess in each.best}
        assert [own[name] for name in NAMES] == row.tolist()
        assert each.best[0].label == NAMES[row.argmax()]
        assert sum(guess.probability for guess in each.best) == pytest.approx(1)
        assert each.labels[0] in NAMES
        assert not each.none_of_these


def test_a_heads_scores_and_the_order_of_its_classes(cache, stored):
    found = head_predictor(stored, cache=cache).predict(cache, top=6)
    videos = cache.frames().astype(float).mean(axis=2)
    videos /= np.linalg.norm(videos, axis=-1, keepdims=True)
    rows = stored.module.class_embeddings.detach().numpy().astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = softmax(videos @ rows.T / 0.2, axis=-1).mean(axis=1)
    for row, each in zip(expected, found, strict=True):
        own = {guess.label: guess.probability for guess in each.best}
        np.testing.assert_allclose([own[name] for name in NAMES[::-1]], row, rtol=1e-3)


def test_calibration_divides_the_logarithms(cache):
    plain = zero_shot_predictor(cache, LEXICON)
    fitted = plain.calibrated(cache, "val")
    t = fitted.calibration.temperature
    assert t != pytest.approx(1, abs=0.05)
    assert fitted.calibration.n_videos == 60
    for before, after in zip(plain.predict(cache, top=6), fitted.predict(cache, top=6), strict=True):
        assert [guess[:2] for guess in before.best] == [guess[:2] for guess in after.best]
        old = np.array([guess.probability for guess in before.best])
        new = np.array([guess.probability for guess in after.best])
        np.testing.assert_allclose(new, softmax(np.log(old) / t), rtol=1e-9)


def test_labels_outside_the_lexicon_do_not_calibrate(cache):
    few = Lexicon("four", NAMES[:4], NAMES[:4])
    assert zero_shot_predictor(cache, few).calibrated(cache, "val").calibration.n_videos == 40
    other = Lexicon("other", ("a", "b"), ("a", "b"))
    with pytest.raises(EvaluationError, match="no video of val has one label that is among the 2 classes"):
        zero_shot_predictor(cache, other).calibrated(cache, "val")


def test_nothing_is_chosen_on_training_videos(cache, stored):
    trained = np.flatnonzero(np.array(cache.splits) == "val")[:24]
    own = StoredHead(
        stored.module,
        stored.identity,
        stored.classes,
        stored.settings,
        None,
        video_fingerprints(cache, trained),
    )
    predictor = head_predictor(own, cache=cache, name="h").calibrated(cache, "all")
    assert predictor.calibration.n_videos == 96
    assert predictor.notes == ("24 of 120 videos are left out of it: the head h was trained on them.",)
    assert len(predictor.predict(cache)) == 120


def test_files_are_read_as_the_videos_of_the_cache_were(tmp_path):
    for number in range(3):
        save_video(tmp_path / "videos" / f"{number}.mp4", frames=9, size=64, seed=number)
    encoder = load_encoder("demo", device="cpu")
    listed = read_videos(tmp_path / "videos")
    extract(listed, encoder, tmp_path / "features", Sampling(4, clips=2))
    cache = FeatureCache(tmp_path / "features")
    predictor = zero_shot_predictor(cache, LEXICON).with_threshold(0.5)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    found, failures = predictor.predict_files(read_videos(tmp_path / "videos"), encoder)
    assert [failure.id for failure in failures] == ["broken.mp4"]
    for one, other in zip(found, predictor.predict(cache), strict=True):
        assert (one.id, one.path, one.none_of_these) == (other.id, other.path, other.none_of_these)
        assert [guess.label for guess in one.best] == [guess.label for guess in other.best]
        np.testing.assert_allclose(
            [guess.probability for guess in one.best], [guess.probability for guess in other.best], rtol=1e-3
        )


def test_features_of_another_encoder_are_refused(cache, write_cache, rng):
    from helpers import a_record

    other = FeatureCache(write_cache([a_record("a", rng)]))
    with pytest.raises(EvaluationError, match="has features of ViT-B-16"):
        zero_shot_predictor(cache, LEXICON).predict(other)
    with pytest.raises(EvaluationError, match="one pool"):
        zero_shot_predictor(cache, LEXICON, ScoringSettings(pools=("mean", "max")))
