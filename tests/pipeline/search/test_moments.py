"""Moments: borders by hand, and known segments of the demo's world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers import a_record, an_identity
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline.search import Query, SearchSettings, find_results, mean_frame, moments_of, timeline_of

NAN = float("nan")


@pytest.mark.parametrize(
    ("indices", "seconds", "start", "end", "borders"),
    [
        # Half-way between neighbors; the last frame stands for as long as lies between the last two, at most.
        ([[0, 10, 30]], [[0, 1, 3]], 0, 4, [0, 0.5, 2, 4]),
        ([[0, 10, 30]], [[0, 1, 3]], 0, None, [0, 0.5, 2, 5]),
        # Dense frames in the middle of a long video.
        ([[50, 52, 54]], [[5.0, 5.2, 5.4]], 0, 60, [4.8, 5.1, 5.3, 5.6]),
        # A segment of a video, from second 4 to 8.
        ([[40, 60]], [[4, 6]], 4, 8, [4, 5, 8]),
        # Two clips that interleave, with a frame in common; two crops of each.
        ([[0, 20], [0, 20], [10, 20], [10, 20]], [[0, 2], [0, 2], [1, 2], [1, 2]], 0, 3, [0, 0.5, 1.5, 3]),
        ([[7, 7]], [[0.7, 0.7]], 0, 2, [0, 2]),
        ([[0, 1]], [[NAN, NAN]], 0, None, [NAN, NAN, NAN]),
    ],
)  # fmt: skip
def test_frames_stand_for_what_is_nearest_to_them(indices, seconds, start, end, borders):
    timeline = timeline_of(np.array(indices), np.array(seconds), start_seconds=start, end_seconds=end)
    np.testing.assert_allclose(timeline.borders, borders)
    np.testing.assert_array_equal(timeline.frame_indices[timeline.places], np.ravel(indices))


def test_the_background_is_the_mean_of_all_normalized_frames(rng, write_cache):
    cache = FeatureCache(write_cache([a_record(f"v{i:02}", rng, views=2) for i in range(30)]))
    frames = cache.frames().astype(np.float64)
    expected = (frames / np.linalg.norm(frames, axis=-1, keepdims=True)).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean_frame(cache), expected, atol=1e-6)


def frames_with(cosines: list[float]) -> np.ndarray:
    """[1, T, 16] with these cosines to the first axis."""
    frames = np.zeros((1, len(cosines), 16), np.float32)
    frames[0, :, 0] = cosines
    frames[0, :, 1] = np.sqrt(1 - np.square(cosines))
    return frames * 7  # lengths do not count


@pytest.fixture
def folder(tmp_path, rng):
    videos = {
        "twice": [0.1, 0.1, 0.6, 0.7, 0.6, 0.1, 0.5, 0.1],
        "always": [0.8] * 8,
        "never": [0.0] * 7 + [0.05],
    }
    with CacheWriter(tmp_path / "features", an_identity()) as writer:
        for name, cosines in videos.items():
            writer.add(
                replace(a_record(name, rng, frames=8, duration_seconds=2.0), frames=frames_with(cosines))
            )
    return tmp_path / "features"


def test_moments_are_runs_of_frames_above_the_level(folder):
    cache = FeatureCache(folder)
    query = np.eye(16)[0]
    # Frames are 0.25 s apart. Level 0.5 from the background 0.1: from 0.4 on.
    found = moments_of(cache, [cache.index("twice")], query, 0.1, level=0.5)
    assert [(each.start_seconds, each.end_seconds, each.frames) for each in found] == [
        (0.375, 1.125, (14, 28)),
        (1.375, 1.625, (42, 42)),
    ]
    np.testing.assert_allclose([each.score for each in found], [0.7, 0.5], atol=1e-3)
    assert len(moments_of(cache, [cache.index("twice")], query, 0.1, level=0.7)) == 1
    (whole,) = moments_of(cache, [cache.index("always")], query, 0.1)
    assert (whole.start_seconds, whole.end_seconds) == (0, 2)
    # Nothing is above the background: the best frame is all that there is.
    (best,) = moments_of(cache, [cache.index("never")], query, 0.1)
    assert best.frames == (49, 49)


def test_the_best_moments_of_all_are_found_in_the_best_videos(folder):
    cache = FeatureCache(folder)
    settings = SearchSettings(top=3, pool="max", moments=True, level=0.2)
    (found,) = find_results(cache, [Query("x", "text", np.eye(16)[0])], settings, device="cpu")
    assert [cache.ids[each.video] for each in found] == ["always", "twice", "twice"]
    assert [each.score for each in found] == [each.moment.score for each in found]


def test_moments_of_idle_videos_are_when_the_action_is(tmp_path):
    from vidclip.demo.actions import action_named
    from vidclip.demo.videos import Clip, write_world
    from vidclip.demo.world import video_scene
    from vidclip.pipeline.datasets import read_videos
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import ExtractSettings, extract
    from vidclip.pipeline.search import text_queries, text_query_list
    from vidclip.pipeline.video import Sampling

    labels = ["kicking a ball", "climbing a ladder", "carrying a box", "playing a drum"]
    clips = [Clip(label, 20_000 + i, "idle", "test") for label in labels for i in range(3)]
    for _ in write_world(tmp_path, clips, workers=1):
        pass
    encoder = load_encoder("demo", device="cpu")
    extract(
        read_videos(tmp_path / "videos.csv"), encoder, tmp_path / "features", Sampling(8), ExtractSettings(1)
    )
    cache = FeatureCache(tmp_path / "features")
    settings = SearchSettings(top=100, pool="max", moments=True)
    queries = text_query_list(text_queries(encoder, labels, ["This is a video about {}"]))
    found = find_results(cache, queries, settings, device="cpu")
    overlaps, whole = [], []
    for label, results in zip(labels, found, strict=True):
        for clip in (clip for clip in clips if clip.label == label):
            _, moments = video_scene(action_named(label), clip.seed, "idle")
            active = [i for i, each in enumerate(moments) if each.doing == "action"]
            truth = (active[0] / 10, (active[-1] + 1) / 10)
            own = next(each.moment for each in results if cache.ids[each.video] == clip.path)
            overlaps.append(iou((own.start_seconds, own.end_seconds), truth))
            whole.append(iou((0, len(moments) / 10), truth))
    assert np.mean(overlaps) > 0.6 > 0.4 > np.mean(whole)


def iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    both = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return both / (max(one[1], other[1]) - min(one[0], other[0])) if both else 0.0
