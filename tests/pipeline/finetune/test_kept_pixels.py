"""Clips from kept frames: which pixels they have, that nothing is decoded twice, and that trainings stay exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import save_video
from vidclip.pipeline.finetune import Finetuning, TrainingLoop
from vidclip.pipeline.finetune.kept_pixels import KeptReader, kept_spec
from vidclip.pipeline.video import (
    Augmentation,
    ClipSpec,
    DecodePool,
    Preprocess,
    Sampling,
    VideoRequest,
    decode_video,
    decode_whole,
    whole_frames,
)

Begin = Callable[..., Finetuning]
PLAIN = Augmentation(crop=False, flip=0.0)


def drawn_spec(augmentation: Augmentation, frames: int = 3, size: int = 32) -> ClipSpec:
    return ClipSpec(Sampling(frames, position="random"), Preprocess((size, size)), augmentation)


def reader_of(pool: DecodePool, drawn: ClipSpec, per_segment: int) -> KeptReader:
    return KeptReader(pool, drawn, per_segment, threads=2)


def whole_pool(drawn: ClipSpec, per_segment: int) -> DecodePool:
    name = f"{decode_whole.__module__}:{decode_whole.__name__}"
    return DecodePool(kept_spec(drawn, per_segment), workers=1, decode=name)


def clip_of(drawn: ClipSpec, path: Path, per_segment: int, draw: tuple[int, ...]) -> np.ndarray:
    with whole_pool(drawn, per_segment) as pool:
        return (
            next(reader_of(pool, drawn, per_segment).batches([VideoRequest(path, draw=draw)], [1]))
            .pixels[0]
            .numpy()
        )


def test_whole_frames_keep_their_proportions(tmp_path: Path):
    video = save_video(tmp_path / "wide.mp4", frames=8, size=64, widths=2)
    full = decode_video(
        video, ClipSpec(Sampling(4, position="middle"), Preprocess((64, 128))), "pyav"
    ).pixels[0]
    spec = whole_frames(Sampling(4, position="middle"), Preprocess((32, 32)), 48)
    found = decode_whole(video, spec, "pyav").pixels
    assert found.shape == (1, 4, 48, 96, 3)
    expected = [
        np.asarray(Image.fromarray(frame).resize((96, 48), Image.Resampling.BICUBIC)) for frame in full
    ]
    np.testing.assert_array_equal(found[0], expected)
    smaller = decode_whole(
        video, whole_frames(Sampling(4, position="middle"), Preprocess((8, 8)), 256), "pyav"
    )
    np.testing.assert_array_equal(smaller.pixels[0], full)


def test_frames_of_extreme_proportions_lose_their_ends(tmp_path: Path):
    stripes = np.zeros((20, 200, 3), np.uint8)
    stripes[:, 60:140] = 255
    Image.fromarray(stripes).save(tmp_path / "long.png")
    found = decode_whole(tmp_path / "long.png", whole_frames(Sampling(1), Preprocess((8, 8)), 10)).pixels
    assert found.shape == (1, 1, 10, 40, 3)
    assert found.min() > 250


def test_images_of_different_proportions_are_not_kept_together(tmp_path: Path):
    (tmp_path / "clip").mkdir()
    for number, width in enumerate((40, 60)):
        Image.new("RGB", (width, 40)).save(tmp_path / "clip" / f"{number}.png")
    drawn = drawn_spec(PLAIN, frames=2)
    with whole_pool(drawn, 1) as pool:
        batch = next(
            reader_of(pool, drawn, 1).batches([VideoRequest(tmp_path / "clip", draw=(0, 1, 0))], [1])
        )
    assert "different proportions" in batch.failures[0]
    assert len(batch.pixels) == 0


def test_uncropped_clips_have_the_pixels_of_the_models_own_preprocessing(tmp_path: Path):
    """One kept frame a segment is its middle one: then nothing is drawn."""
    video = save_video(tmp_path / "v.mp4", frames=12, size=48, widths=2)
    still = ClipSpec(Sampling(3, position="middle"), Preprocess((32, 32)))
    expected = decode_video(video, still).pixels[0]
    np.testing.assert_array_equal(clip_of(drawn_spec(PLAIN), video, 1, (0, 1, 0)), expected)
    mirrored = clip_of(drawn_spec(replace(PLAIN, flip=1.0)), video, 1, (0, 1, 0))
    np.testing.assert_array_equal(mirrored, expected[:, :, ::-1])


def test_every_kept_frame_of_a_segment_is_drawn(tmp_path: Path):
    video = save_video(tmp_path / "v.mp4", frames=12, size=48)
    whole = ClipSpec(Sampling(6, position="middle"), Preprocess((32, 32)))
    kept = decode_video(video, whole).pixels[0]  # two of each of three segments
    drawn, seen = drawn_spec(PLAIN), [set(), set(), set()]
    with whole_pool(drawn, 2) as pool:
        requests = [VideoRequest(video, draw=(0, epoch, 0)) for epoch in range(20)]
        for batch in reader_of(pool, drawn, 2).batches(requests, [10, 10]):
            for clip in batch.pixels.numpy():
                for t, frame in enumerate(clip):
                    seen[t] |= {i for i in range(6) if np.array_equal(frame, kept[i])}
    assert seen == [{0, 1}, {2, 3}, {4, 5}]


def test_boxes_are_those_of_decoded_clips(tmp_path: Path):
    """Of frames that are smaller than what would be kept of them, each box has the same pixels."""
    video = save_video(tmp_path / "v.mp4", frames=8, size=32)
    kept, decoded = drawn_spec(Augmentation(), frames=8), drawn_spec(Augmentation(), frames=8)
    for epoch in range(3):
        draw = (0, epoch, 0)
        expected = decode_video(VideoRequest(video, draw=draw), decoded).pixels[0]
        np.testing.assert_array_equal(clip_of(kept, video, 1, draw), expected)


def test_boxes_are_cut_out_of_frames_that_are_a_little_larger():
    for size, side in ((224, 256), (32, 37)):
        assert min(kept_spec(drawn_spec(Augmentation(), size=size), 2).preprocess.size) == side
        assert min(kept_spec(drawn_spec(PLAIN, size=size), 2).preprocess.size) == size


def test_later_epochs_decode_nothing(tmp_path: Path):
    videos = [save_video(tmp_path / f"{i}.mp4", frames=8, seed=i) for i in range(3)]
    drawn = drawn_spec(Augmentation())

    def requests(epoch: int) -> list[VideoRequest]:
        order = np.random.default_rng(epoch).permutation(4) % 3  # one of them twice
        return [VideoRequest(videos[i], draw=(0, epoch, int(i))) for i in order]

    with whole_pool(drawn, 2) as pool:
        reader = reader_of(pool, drawn, 2)
        first = [batch.pixels for batch in reader.batches(requests(1), [2, 2])]
        assert reader.bytes_per_video == 6 * 37 * 37 * 3
        for video in videos:
            video.unlink()
        second = list(reader.batches(requests(2), [3, 1]))
        again = [batch.pixels for batch in reader.batches(requests(1), [2, 2])]
    assert [len(batch.pixels) for batch in second] == [3, 1]
    assert not any(batch.failures for batch in second)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_what_an_epoch_left_out_is_decoded_by_the_next(tmp_path: Path):
    videos = [save_video(tmp_path / f"{i}.mp4", frames=8, seed=i) for i in range(3)]
    drawn = drawn_spec(Augmentation())
    with whole_pool(drawn, 1) as pool:
        reader = reader_of(pool, drawn, 1)
        list(reader.batches([VideoRequest(videos[1], draw=(0, 1, 1))], [1]))
        videos[1].unlink()
        requests = [VideoRequest(path, draw=(0, 2, i)) for i, path in enumerate(videos)]
        (batch,) = reader.batches(requests, [3])
    assert batch.failures == {}
    assert len(batch.pixels) == 3


def test_what_cannot_be_read_is_named(tmp_path: Path):
    good = save_video(tmp_path / "good.mp4", frames=8)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    drawn = drawn_spec(Augmentation())
    with whole_pool(drawn, 1) as pool:
        reader = reader_of(pool, drawn, 1)
        for epoch in (1, 2):
            requests = [VideoRequest(path, draw=(0, epoch, 0)) for path in (tmp_path / "bad.mp4", good)]
            batch = next(reader.batches(requests, [2]))
            assert batch.indices.tolist() == [1]
            assert list(batch.failures) == [0]


class Killed(Exception):
    pass


@pytest.mark.parametrize("crop", [True, pytest.param(False, marks=pytest.mark.long)])
def test_trainings_of_one_seed_are_equal_and_resume_exactly(begin: Begin, tmp_path: Path, crop: bool):
    settings: dict[str, Any] = {"temporal": "mean", "epochs": 3, "keep_pixels": 2, "crop": crop}

    def weights(training: Finetuning) -> dict[str, Any]:
        return {
            name: tensor for name, tensor in training.loop.weights().items() if name.startswith("network")
        }

    runs = {name: begin(tmp_path / name, **settings) for name in ("one", "two", "killed")}
    runs["one"].run()
    runs["two"].run()

    def kill(report: Any) -> None:
        if report.epoch.number == 1:
            raise Killed

    with pytest.raises(Killed):
        runs["killed"].run(kill)
    resumed = begin(tmp_path / "killed", **settings)
    resumed.run()
    expected = weights(runs["one"])
    for other in (runs["two"], resumed):
        assert all(np.array_equal(tensor, expected[name]) for name, tensor in weights(other).items())
    decoded = begin(tmp_path / "decoded", **{**settings, "keep_pixels": 0})
    decoded.run()
    assert any(not np.array_equal(tensor, expected[name]) for name, tensor in weights(decoded).items())


def test_a_training_decodes_each_video_once(
    begin: Begin, tmp_path: Path, labeled_videos: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[VideoRequest] = []
    decode = DecodePool.decode

    def counted(self: DecodePool, paths: Any, **options: Any) -> Any:
        requests = list(paths)
        asked.extend(each for each in requests if isinstance(each, VideoRequest))
        return decode(self, requests, **options)

    monkeypatch.setattr(DecodePool, "decode", counted)
    training = begin(tmp_path, temporal="mean", epochs=3, keep_pixels=1, held_out=0.0)
    training.run()
    assert len(asked) == len(set(asked)) == len(training.videos.train)
    assert isinstance(training.loop, TrainingLoop)
