"""Images as videos of one frame, beside what Pillow reads of them."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vidclip.pipeline.video import (
    ClipSpec,
    Decoded,
    DecodeError,
    DecodeFailure,
    DecodePool,
    Preprocess,
    Sampling,
    VideoRequest,
    decode_video,
)

AS_THEY_ARE = Preprocess((48, 48), resize=48)
ONE = ClipSpec(Sampling(1), AS_THEY_ARE)


def picture(number=0, size=(48, 48)):
    coarse = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(kind, **options):
    file = io.BytesIO()
    picture().save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.webp", "a.bmp", "影 片.png"])
def test_an_image_is_a_video_of_one_frame(tmp_path, name):
    path = tmp_path / name
    picture().save(path)
    decoded = decode_video(path, ONE)
    np.testing.assert_array_equal(decoded.pixels[0, 0], np.asarray(Image.open(path).convert("RGB")))
    assert (decoded.n_frames, decoded.readable_frames, decoded.repeated) == (1, 1, False)
    assert (decoded.frame_indices.tolist(), decoded.duration_seconds, decoded.note) == ([[0]], 0, "")
    assert np.isnan(decoded.timestamps).all()
    assert re.fullmatch(r"images \((opencv|pillow) [\d.]+\)", decoded.decoder)


@pytest.mark.parametrize(
    "sampling", [Sampling(3, clips=2), Sampling(3, clips=2, position="middle"), Sampling(3, mode="dense")]
)
def test_an_image_repeats_where_a_clip_has_more_frames(tmp_path, sampling):
    picture().save(tmp_path / "a.png")
    decoded = decode_video(tmp_path / "a.png", ClipSpec(sampling, AS_THEY_ARE))
    assert decoded.repeated
    assert not decoded.frame_indices.any()
    assert (decoded.pixels == np.asarray(picture())).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_flags_turn_an_image_upright(tmp_path, suffix):
    lying, flag = picture().transpose(Image.Transpose.ROTATE_90), Image.Exif()
    flag[0x0112] = 6  # turn it clockwise to show it
    lying.save(tmp_path / f"a{suffix}", exif=flag, **({"lossless": True} if suffix == ".webp" else {}))
    shown = decode_video(tmp_path / f"a{suffix}", ONE).pixels[0, 0].astype(int)
    np.testing.assert_allclose(shown, np.asarray(picture()), atol=40 if suffix == ".jpg" else 0)


def claiming_png(width, height):
    data = bytearray(encoded("PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def animated(kind):
    return encoded(kind, save_all=True, append_images=[picture(1), picture(2)])


DAMAGED = {
    "empty.png": (b"", r"^is empty \(0 bytes\)"),
    "text.jpg": (b"no image" * 99, r"^is no image \(JPEG, PNG, WebP, BMP\), or damaged"),
    "cut.jpg": (encoded("JPEG")[:-300], "^is damaged"),
    "cut.png": (encoded("PNG")[:-60], "^is damaged"),
    "cut.webp": (encoded("WEBP")[:-60], "^is (damaged|no image)"),
    "cut.bmp": (encoded("BMP")[:-600], "^is damaged"),
    "animated.webp": (animated("WEBP"), r"^is animated \(3 frames\)"),
    "animated.png": (animated("PNG"), r"^is animated \(3 frames\)"),
    "huge.png": (claiming_png(12000, 12000), "(is an image of 12000 x 12000|claims more) pixels"),
    "a program.png": (encoded("EPS"), "^is no image"),
    "a.tiff.png": (encoded("TIFF"), "^is no image"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_still_image_fails_by_itself(tmp_path):
    for name, (data, _) in DAMAGED.items():
        (tmp_path / name).write_bytes(data)
    picture().save(tmp_path / "whole.png")
    paths = [tmp_path / name for name in (*DAMAGED, "none.png", "whole.png")]
    with DecodePool(ONE, workers=1) as pool:
        results = dict(pool.decode(paths))
        for index, (name, (_, reason)) in enumerate(DAMAGED.items()):
            failure = results[index]
            assert isinstance(failure, DecodeFailure), name
            assert re.search(reason, failure.reason), (name, failure.reason)
        assert results[len(DAMAGED)].stage == "missing"
        assert isinstance(results[len(DAMAGED) + 1], Decoded)
        results[len(DAMAGED) + 1].release()


def test_an_image_has_no_segments(tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(DecodeError, match="is an image: it has no segments in seconds"):
        decode_video(VideoRequest(tmp_path / "a.png", 0, 2), ONE)
