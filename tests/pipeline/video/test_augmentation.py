"""Random crops and flips: where boxes lie, that the frames of a clip share them, and that workers draw the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from vidclip.pipeline.video import (
    Augmentation,
    ClipSpec,
    DecodePool,
    Preprocess,
    Sampling,
    VideoRequest,
    decode_video,
)

SIZE = (24, 32)
CLIP_SPEC = ClipSpec(Sampling(4, position="random"), Preprocess(SIZE, resize_mode="squash"), Augmentation())


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six times the same picture."""
    folder = tmp_path_factory.mktemp("still")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for number in range(6):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(("width", "height"), [(340, 256), (256, 340), (1000, 50), (7, 900), (1, 1)])
def test_boxes_lie_inside_the_frame(width: int, height: int):
    for number in range(200):
        left, top, right, bottom = Augmentation().box(width, height, (0, 0, number))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_boxes_have_the_distribution_of_the_formula():
    """Twin: area U(a, 1), ratio U(3/4, 4/3), swapped in half of the draws, the first of ten that fits."""
    rng, width, height, count = np.random.default_rng(1), 340, 256, 2000
    twin = []
    while len(twin) < count:
        area, ratio = rng.uniform(0.08, 1) * width * height, rng.uniform(3 / 4, 4 / 3)
        sides = np.sqrt([area * ratio, area / ratio])
        w, h = sides if rng.random() < 0.5 else sides[::-1]
        if round(w) <= width and round(h) <= height:
            twin.append((w * h, w / h, rng.random() * (width - w), rng.random() * (height - h)))
    boxes = np.array([Augmentation().box(width, height, (0, 0, i)) for i in range(count)], float)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    found = np.stack([w * h, w / h, boxes[:, 0], boxes[:, 1]])
    for own, expected in zip(found, np.array(twin).T, strict=True):
        assert stats.ks_2samp(own, expected).pvalue > 0.001


def test_frames_of_a_clip_share_box_and_flip(still: Path):
    picture = Image.open(still / "0.png")
    flipped = set()
    for video in range(6):
        draw = (3, 1, video)
        clip = decode_video(VideoRequest(still, draw=draw), CLIP_SPEC).pixels[0]
        box = Augmentation().box(90, 60, draw)
        expected = np.asarray(picture.crop(box).resize(SIZE[::-1], Image.Resampling.BILINEAR))
        mirrored = Augmentation().flips(draw)
        flipped.add(mirrored)
        for frame in clip:
            np.testing.assert_array_equal(frame, expected[:, ::-1] if mirrored else expected)
    assert flipped == {True, False}


def test_without_crops_the_model_s_own_preprocessing_is_flipped(still: Path):
    clip_spec = ClipSpec(CLIP_SPEC.sampling, CLIP_SPEC.preprocess, Augmentation(crop=False, flip=1))
    clip = decode_video(VideoRequest(still, draw=(0, 0, 0)), clip_spec).pixels[0]
    frame = np.asarray(Image.open(still / "0.png"))
    np.testing.assert_array_equal(clip[0], CLIP_SPEC.preprocess.pixels(frame)[0][:, ::-1])


def test_workers_draw_what_this_process_draws(still: Path):
    requests = [VideoRequest(still, draw=(7, epoch, 2)) for epoch in range(3)]
    here = [decode_video(request, CLIP_SPEC).pixels for request in requests]
    assert not np.array_equal(here[0], here[1])
    with DecodePool(CLIP_SPEC, workers=1) as pool:
        for index, result in pool.decode(requests):
            with result:
                np.testing.assert_array_equal(result.pixels, here[index])  # type: ignore[union-attr]


def test_augmentation_needs_draws():
    with pytest.raises(ValueError, match="needs random frames"):
        ClipSpec(Sampling(4), Preprocess(SIZE), Augmentation())


@pytest.mark.parametrize("wrong", [{"min_area": 0}, {"max_ratio": 0.5}, {"flip": 2}])
def test_rejects_values_that_cannot_be(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (64, 64)])
def test_multi_scale_boxes_have_the_sizes_and_places_of_x_clip(width: int, height: int):
    boxes = {Augmentation(form="multi-scale").box(width, height, (0, 0, i)) for i in range(2000)}
    sides = [round(min(width, height) * scale) for scale in (1, 0.875, 0.75, 0.66)]
    expected = set()
    for i, across in enumerate(sides):
        for down in sides[max(0, i - 1) : i + 2]:
            right, bottom = width - across, height - down
            for left, top in ((0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)):
                expected.add((left, top, left + across, top + down))
    assert boxes == expected
