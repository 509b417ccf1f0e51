import hashlib
from fractions import Fraction
from itertools import pairwise, product
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidclip.pipeline.video import Sampling

samplings = st.builds(
    Sampling,
    frames=st.integers(1, 200),
    clips=st.integers(1, 10),
    crops=st.sampled_from([1, 3]),
    mode=st.sampled_from(["uniform", "dense"]),
    position=st.sampled_from(["start", "middle"]),
)
lengths = st.integers(1, 3000)


@given(samplings, lengths)
def test_indices_are_frames_of_the_video(sampling, n_frames):
    indices = sampling.frame_indices(n_frames)
    assert indices.shape == (sampling.clips, sampling.frames)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < n_frames


@given(st.integers(1, 64), lengths, st.sampled_from(["start", "middle"]))
def test_each_uniform_frame_lies_in_its_own_segment(frames, n_frames, position):
    [indices] = Sampling(frames=frames, position=position).frame_indices(n_frames)
    for i, index in enumerate(indices):
        start = Fraction(i * n_frames, frames)
        offset = Fraction(n_frames, 2 * frames) if position == "middle" else 0
        assert index == floor(start + offset)


@given(st.integers(1, 64), st.integers(1, 10), lengths)
def test_clips_follow_the_formula_of_the_released_code(frames, clips, n_frames):
    indices = Sampling(frames=frames, clips=clips).frame_indices(n_frames)
    stop = n_frames / frames - 1
    shifts = [int(s) for s in np.linspace(0, stop, clips)] if stop > 0 else [0] * clips
    expected = [
        [(s + floor(Fraction(i * n_frames, frames))) % n_frames for i in range(frames)] for s in shifts
    ]
    assert indices.tolist() == expected


@given(st.integers(1, 32), st.integers(2, 10), st.integers(10, 3000))
def test_middle_clips_interleave_a_finer_sampling(frames, clips, n_frames):
    dealt = Sampling(frames=frames, clips=clips, position="middle").frame_indices(n_frames)
    fine = Sampling(frames=frames * clips, position="middle").frame_indices(n_frames)
    assert np.array_equal(dealt.T.ravel(), fine[0])


def test_indices_computed_by_hand():
    assert Sampling(frames=8).frame_indices(300).tolist() == [[0, 37, 75, 112, 150, 187, 225, 262]]
    assert Sampling(frames=8, position="middle").frame_indices(300).tolist() == [
        [18, 56, 93, 131, 168, 206, 243, 281]
    ]
    assert Sampling(frames=3, clips=3).frame_indices(9).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert Sampling(frames=8).frame_indices(3).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]
    assert Sampling(frames=4, clips=2).frame_indices(3).tolist() == [[0, 0, 1, 2]] * 2
    assert Sampling(frames=8, mode="dense").frame_indices(300).tolist() == [list(range(86, 86 + 128, 16))]
    assert Sampling(frames=4, clips=3, mode="dense").frame_indices(301).tolist() == [
        [0, 32, 64, 96],
        [86, 118, 150, 182],
        [172, 204, 236, 268],
    ]
    assert Sampling(frames=4, mode="dense").frame_indices(50).tolist() == [[0, 32, 14, 46]]


def test_views_are_clips_times_crops():
    assert Sampling(clips=4, crops=3).views == 12


@given(st.integers(1, 64), st.integers(1, 3), lengths, st.integers(0, 2**32))
def test_random_frames_stay_in_their_segments(frames, clips, n_frames, seed):
    sampling = Sampling(frames, clips=clips, position="random")
    indices = sampling.frame_indices(n_frames, np.random.default_rng(seed))
    assert indices.shape == (clips, frames)
    for clip in indices:
        for i, index in enumerate(clip):
            first, after = floor(Fraction(i * n_frames, frames)), floor(Fraction((i + 1) * n_frames, frames))
            assert index in (range(first, after) or [first]), (
                "a segment without a frame gives the one it is in"
            )


def test_random_frames_reach_all_of_a_segment():
    rng, sampling = np.random.default_rng(0), Sampling(2, clips=2, position="random")
    seen = {tuple(sampling.frame_indices(6, rng).ravel().tolist()) for _ in range(2000)}
    assert seen == set(product(range(3), range(3, 6), range(3), range(3, 6)))


@given(st.integers(1, 64), st.integers(1, 3), lengths, st.integers(0, 2**32))
def test_frames_of_training_are_drawn_as_ever(frames, clips, n_frames, seed):
    """A training that is resumed, or repeated, sees the frames it saw."""
    edges = [floor(Fraction(i * n_frames, frames)) for i in range(frames + 1)]
    stops = [max(after, first + 1) for first, after in pairwise(edges)]
    expected = np.random.default_rng(seed).integers(edges[:-1], stops, size=(clips, frames))
    sampling = Sampling(frames, clips=clips, position="random")
    assert np.array_equal(sampling.frame_indices(n_frames, np.random.default_rng(seed)), expected)


def test_seeded_random_frames_are_those_of_mmaction():
    """`SampleFrames` of clips of one frame: base i (L // T), an offset below L // T; without one, round(i L / T)."""
    sampling, seen = Sampling(3, clips=2, position="random", seed=0), [set(), set(), set()]
    for draw in range(500):
        for clip in sampling.frame_indices(11, np.random.default_rng(draw)):
            for i in range(3):
                seen[i].add(int(clip[i]))
    assert seen == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}], "the last 11 % 3 frames are in no segment"
    for frames, n_frames in product(range(1, 20), range(1, 20)):
        if n_frames < frames:
            found = Sampling(frames, clips=2, position="random", seed=0).frame_indices(
                n_frames, np.random.default_rng(0)
            )
            expected = [round(Fraction(i * n_frames, frames)) % n_frames for i in range(frames)]
            assert found.tolist() == [expected, expected], (frames, n_frames)


@given(st.integers(1, 32), st.integers(1, 5), lengths, st.integers(0, 2**32))
def test_a_seeded_clip_does_not_depend_on_how_many_there_are(frames, clips, n_frames, seed):
    def drawn(clips: int) -> np.ndarray:
        sampling = Sampling(frames, clips=clips, position="random", seed=seed)
        return sampling.frame_indices(n_frames, np.random.default_rng(sampling.draw_of("a/b.mp4")))

    assert np.array_equal(drawn(clips), drawn(6)[:clips])


def test_the_draw_of_a_video_follows_from_seed_and_id():
    seeded = Sampling(position="random", seed=5)
    number = int(hashlib.sha256(b"a/b.mp4").hexdigest()[:16], 16)
    assert seeded.draw_of("a/b.mp4") == (5, number)
    assert seeded.draw_of("a/b.mp4#t=1,2") != seeded.draw_of("a/b.mp4")
    assert seeded.draw_of("bad \udcff name.mp4") != seeded.draw_of("bad name.mp4")
    assert Sampling().draw_of("a/b.mp4") is Sampling(position="random").draw_of("a/b.mp4") is None


def test_random_dense_clips_begin_anywhere_and_go_on_at_the_stride():
    rng, sampling = np.random.default_rng(0), Sampling(4, clips=2, mode="dense", position="random")
    clips = [tuple(clip) for _ in range(500) for clip in sampling.frame_indices(135, rng).tolist()]
    assert set(clips) == {(first, first + 32, first + 64, first + 96) for first in range(135 - 128)}


def test_random_dense_clips_of_a_short_video_begin_at_its_first_frame():
    sampling = Sampling(4, mode="dense", position="random")
    assert sampling.frame_indices(50, np.random.default_rng(0)).tolist() == [[0, 32, 14, 46]]


@pytest.mark.parametrize("mode", ["uniform", "dense"])
def test_random_frames_need_a_generator(mode: str):
    with pytest.raises(ValueError, match="position 'random' needs a generator"):
        Sampling(mode=mode, position="random").frame_indices(9)


@given(samplings)
def test_dict_round_trip(sampling):
    assert Sampling.from_dict(sampling.to_dict()) == sampling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames must be a whole number of at least 1, got 0"),
        ({"frames": 2.5}, "frames must be a whole number"),
        ({"clips": -1}, "clips must be a whole number"),
        ({"crops": 2}, "crops must be one of 1, 3, got 2"),
        ({"mode": "random"}, "mode must be one of uniform, dense, got 'random'"),
        ({"position": "end"}, "position must be one of start, middle, random, got 'end'"),
        ({"frame": 8}, "unknown frame"),
        (
            {"crops": 3, "crop_positions": "height"},
            "crop_positions must be one of longer-side, width, got 'height'",
        ),
        ({"crop_positions": "width"}, "crop_positions 'width' is for three crops, not for one"),
        ({"seed": 0}, "seed 0 is for the position 'random', not for 'start'"),
        ({"position": "random", "seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"position": "random", "seed": True}, "seed must be a whole number"),
        ({"frames": 10**12}, "at most 65,536, got 1000000000000 x 1 x 1"),
        ({"frames": 8192, "clips": 3, "crops": 3}, "frames x clips x crops must be at most 65,536"),
    ],
)
def test_rejects_invalid_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Sampling.from_dict(Sampling().to_dict() | change)


def test_later_settings_are_written_when_they_are_not_the_default():
    """Caches from before there was a choice keep their identity."""
    names = {"frames", "clips", "crops", "mode", "position"}
    assert set(Sampling(crops=3).to_dict()) == names
    along = Sampling(crops=3, crop_positions="width")
    assert along.to_dict() == Sampling(crops=3).to_dict() | {"crop_positions": "width"}
    assert Sampling.from_dict(along.to_dict()) == along != Sampling.from_dict(Sampling(crops=3).to_dict())
    drawn = Sampling(position="random", seed=0)
    assert drawn.to_dict() == Sampling(position="random").to_dict() | {"seed": 0}
    assert Sampling.from_dict(drawn.to_dict()) == drawn != Sampling(position="random", seed=1)


def test_rejects_missing_settings():
    with pytest.raises(ValueError, match="missing clips, crops"):
        Sampling.from_dict({"frames": 8, "mode": "uniform", "position": "start"})


def test_rejects_a_video_without_frames():
    with pytest.raises(ValueError, match="n_frames must be at least 1, got 0"):
        Sampling().frame_indices(0)
