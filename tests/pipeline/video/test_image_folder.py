"""Videos that are folders of images, beside what Pillow reads of the same images."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers import save_video
from vidclip.cache import FeatureCache, verify
from vidclip.pipeline.datasets import Video, VideoList
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import extract
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

HEIGHT, WIDTH = 48, 64
AS_THEY_ARE = Preprocess((HEIGHT, WIDTH), resize_mode="squash")


def picture(number, size=(WIDTH, HEIGHT)):
    """Smooth colors, others for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def save_frames(folder, names, **options):
    """An image under each name, in that order; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        picture(number).save(folder / name, **options)
    return folder


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def numbered(pattern, count=30):
    return [pattern.format(number) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "pattern",
    [
        "img_{:05}.jpg",
        "{:06}.jpg",
        "v_x3-{:06}.jpg",
        "frame{}.png",
        "{}.jpeg",
        "IMG {}.JPG",
        "影片_{:03}.png",
    ],
)
def test_frames_are_the_images_in_the_order_of_their_numbers(tmp_path, pattern):
    names = numbered(pattern)  # from 1 to 30: 10 comes after 9, not after 1
    folder = save_frames(tmp_path / "video", names)
    for sampling, indices in [
        (Sampling(), [30 * i // 8 for i in range(8)]),
        (Sampling(4, position="middle"), [3, 11, 18, 26]),
        (Sampling(4, mode="dense"), [0, 2, 4, 6]),  # every 32nd frame, round and round in 30
        (Sampling(30), list(range(30))),
    ]:
        decoded = decode_video(folder, ClipSpec(sampling, AS_THEY_ARE))
        assert decoded.frame_indices.tolist() == [indices]
        for pixels, index in zip(decoded.pixels[0], indices, strict=True):
            np.testing.assert_array_equal(pixels, read(folder / names[index]))
        assert (decoded.n_frames, decoded.readable_frames, decoded.repeated) == (30, 30, False)


def test_times_of_images_are_unknown(tmp_path):
    decoded = decode_video(
        save_frames(tmp_path / "v", numbered("{}.jpg")), ClipSpec(Sampling(clips=2), AS_THEY_ARE)
    )
    assert np.isnan(decoded.timestamps).all()
    assert decoded.timestamps.shape == decoded.frame_indices.shape == (2, 8)
    assert decoded.duration_seconds == 0
    assert decoded.note == "images without a frame rate: no times are known"
    assert re.fullmatch(r"images \(opencv \d+\.[\d.]+\)", decoded.decoder)


def test_images_are_resized_and_cropped_like_frames(tmp_path):
    names = numbered("{:05}.jpg", 9)
    folder = save_frames(tmp_path / "video", names)
    picture(4, size=(40, 90)).save(folder / names[4])  # among lying ones, one that stands
    preprocess = Preprocess((32, 32), resize=40)
    decoded = decode_video(folder, ClipSpec(Sampling(3, clips=2, crops=3), preprocess))
    assert decoded.frame_indices.tolist() == [[0, 3, 6], [2, 5, 8]]
    middle = decode_video(folder, ClipSpec(Sampling(1, position="middle", crops=3), preprocess))
    assert middle.frame_indices.tolist() == [[4]]
    for result in (decoded, middle):
        for clip, indices in enumerate(result.frame_indices):
            for t, index in enumerate(indices):
                expected = preprocess.pixels(read(folder / names[index]), 3)
                np.testing.assert_array_equal(result.pixels[3 * clip : 3 * clip + 3, t], expected)


def test_few_images_repeat_and_are_marked(tmp_path):
    decoded = decode_video(
        save_frames(tmp_path / "video", ["1.png", "2.png"]), ClipSpec(Sampling(4), AS_THEY_ARE)
    )
    assert decoded.repeated
    assert decoded.frame_indices.tolist() == [[0, 0, 1, 1]]


def test_images_of_every_kind_become_red_green_blue(tmp_path):
    folder = tmp_path / "video"
    folder.mkdir()
    gray = picture(0).convert("L")
    forms = [
        picture(0).convert("RGBA"),
        gray,
        picture(0).convert("P", palette=Image.Palette.ADAPTIVE),
        Image.fromarray(np.asarray(gray).astype(np.uint16) * 257),  # 16 bits
    ]
    for number, form in enumerate(forms):
        form.save(folder / f"{number}.png")
    pixels = decode_video(folder, ClipSpec(Sampling(4), AS_THEY_ARE)).pixels[0]
    for found, form in zip(pixels, [*forms[:3], gray], strict=True):
        np.testing.assert_array_equal(found, np.asarray(form.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_exif_flags_turn_images_upright(tmp_path, suffix):
    lying, flag = picture(0).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    flag[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    lying.save(tmp_path / f"1.{suffix}", exif=flag)
    lying.save(tmp_path / f"2.{suffix}")
    first, second = decode_video(tmp_path, ClipSpec(Sampling(2), AS_THEY_ARE)).pixels[0].astype(int)
    upright = np.asarray(picture(0))
    assert np.abs(first - upright).mean() < 3
    assert np.abs(second - upright).mean() > 20, "and not where there is no flag"


def test_suffixes_may_be_mixed_or_wrong(tmp_path):
    save_frames(tmp_path, ["1.jpg", "2.PNG", "3.jpeg"])
    (tmp_path / "4.jpg").write_bytes((tmp_path / "2.PNG").read_bytes())
    decoded = decode_video(tmp_path, ClipSpec(Sampling(4), AS_THEY_ARE))
    expected = [read(tmp_path / name) for name in ("1.jpg", "2.PNG", "3.jpeg", "2.PNG")]
    np.testing.assert_array_equal(decoded.pixels[0], expected)
    assert re.fullmatch(r"images \(opencv [\d.]+, pillow [\d.]+\)", decoded.decoder)


@pytest.mark.parametrize("first", ["decord", "cv2"])
def test_images_are_read_beside_decord(tmp_path, first):
    """Decord's zlib gets in the way of OpenCV's, when it comes first: as it does in a worker."""
    save_frames(tmp_path, ["1.png", "2.jpg"])
    program = (
        "import contextlib\n"
        f"with contextlib.suppress(ImportError): import {first}\n"
        "with contextlib.suppress(ImportError): import decord\n"
        "from vidclip.pipeline.video import ClipSpec, decode_video\n"
        "from vidclip.pipeline.video.preprocess import Preprocess\n"
        "from vidclip.pipeline.video.sampling import Sampling\n"
        f"print(decode_video({str(tmp_path)!r}, ClipSpec(Sampling(2), Preprocess((48, 64), resize_mode='squash'))).pixels.sum())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{sum(read(tmp_path / name).sum() for name in ('1.png', '2.jpg'))}\n", done.stderr


def test_ignores_files_beside_the_frames(tmp_path):
    folder = save_frames(tmp_path / "video", numbered("img_{:05}.jpg"))
    expected = decode_video(folder, ClipSpec(Sampling(), AS_THEY_ARE))
    save_frames(folder, numbered("flow_x_{:05}.jpg", 29))
    save_frames(folder, numbered("flow_y_{:05}.jpg", 29))
    save_frames(folder / "thumbs.jpg", ["1.jpg"])  # a folder
    (folder / "._img_00001.jpg").write_bytes(b"what macOS leaves on foreign disks")
    (folder / "Thumbs.db").write_bytes(b"x")
    found = decode_video(folder, ClipSpec(Sampling(), AS_THEY_ARE))
    assert found.n_frames == 30
    np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], r"is a folder without images \(\.bmp, \.jpeg, \.jpg, \.png, \.webp\)"),
        (["a.txt", ".hidden.jpg"], "is a folder without images"),
        (["1.jpg", "2.jpg", "2.PNG"], r"several images of one frame: 2\.PNG, 2\.jpg"),
        (
            ["rgb_1.jpg", "rgb_2.jpg", "depth_1.png"],
            r"several series of images, not one video: depth_# \(1\), rgb_# \(2\)",
        ),
        (["cover.jpg", "1.jpg", "2.jpg"], r"several series of images, not one video: # \(2\), cover \(1\)"),
    ],
)
def test_reports_why_a_folder_is_no_video(tmp_path, names, reason):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DecodeError, match=reason) as error:
        decode_video(tmp_path, ClipSpec(Sampling(), AS_THEY_ARE))
    assert error.value.stage == "open"


def test_images_without_numbers_are_sorted_by_name(tmp_path):
    folder = save_frames(tmp_path / "video", ["a.png", "b.png", "c.png"])
    np.testing.assert_array_equal(
        decode_video(folder, ClipSpec(Sampling(3), AS_THEY_ARE)).pixels[0],
        [np.asarray(picture(n)) for n in range(3)],
    )


def noise_jpeg(**options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def encoded(form):
    file = io.BytesIO()
    picture(0, size=(340, 256)).save(file, form, **({"quality": 90} if form == "JPEG" else {}))
    return file.getvalue()


def holed(data):
    """Data with a hole in the middle: libjpeg goes on behind it, with gray in between."""
    middle = len(data) // 2
    return data[:middle] + bytes(200) + data[middle + 200 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"003\.jpg is empty \(0 bytes\)"),
        (b"no image" * 99, r"003\.jpg is no image \(JPEG, PNG, WebP, BMP\), or damaged"),
        (noise_jpeg()[:-900], r"003\.jpg is damaged"),
        (noise_jpeg(progressive=True)[:-900], r"003\.jpg is damaged"),
        (holed(noise_jpeg()), r"003\.jpg is damaged: Corrupt JPEG data: \d+ extraneous bytes"),
        (holed(encoded("JPEG")), r"003\.jpg is damaged: Corrupt JPEG data: premature end"),
        (encoded("PNG")[:-60], r"003\.jpg is damaged"),
        (holed(encoded("PNG")), r"003\.jpg is damaged"),
    ],
)
def test_damaged_image_fails_the_video_by_name(tmp_path, data, reason, capfd):
    folder = save_frames(tmp_path / "video", numbered("{:03}.jpg", 8))
    (folder / "003.jpg").write_bytes(data)
    with pytest.raises(DecodeError, match=reason) as error:
        decode_video(folder, ClipSpec(Sampling(), AS_THEY_ARE))
    assert error.value.stage == "decode"
    assert capfd.readouterr() == ("", ""), "what decoders print does not reach the user's terminal"


def test_few_stray_bytes_after_an_image_are_no_damage(tmp_path):
    whole = noise_jpeg()
    for number, data in enumerate([whole, whole[:-2] + bytes(12) + whole[-2:], whole + b"more"]):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    first, *others = decode_video(tmp_path, ClipSpec(Sampling(3), AS_THEY_ARE)).pixels[0]
    assert all(np.array_equal(other, first) for other in others)


def test_broken_link_is_a_missing_frame(tmp_path):
    folder = save_frames(tmp_path / "video", numbered("{:03}.jpg", 8))
    (folder / "005.jpg").unlink()
    (folder / "005.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DecodeError, match=r"005\.jpg cannot be read: No such file"):
        decode_video(folder, ClipSpec(Sampling(), AS_THEY_ARE))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_reports_missing_permission_for_a_folder(tmp_path):
    folder = save_frames(tmp_path / "video", ["1.png"])
    folder.chmod(0)
    with pytest.raises(DecodeError, match="is a folder that cannot be read: Permission denied"):
        decode_video(folder, ClipSpec(Sampling(), AS_THEY_ARE))


def test_only_the_chosen_images_are_read(tmp_path):
    folder = save_frames(tmp_path / "video", numbered("{:03}.png", 8))
    (folder / "002.png").write_bytes(b"damaged")
    decoded = decode_video(folder, ClipSpec(Sampling(4), AS_THEY_ARE))
    np.testing.assert_array_equal(decoded.pixels[0], [np.asarray(picture(n)) for n in (0, 2, 4, 6)])


def test_a_folder_has_no_segments(tmp_path):
    folder = save_frames(tmp_path / "video", numbered("{:03}.png", 8))
    whole = decode_video(VideoRequest(folder, start_seconds=0), ClipSpec(Sampling(), AS_THEY_ARE))
    assert whole.n_frames == 8
    for start, end in [(1, 2), (1, None), (0, 2)]:
        with pytest.raises(DecodeError, match="without a frame rate it has no segments in seconds"):
            decode_video(VideoRequest(folder, start, end), ClipSpec(Sampling(), AS_THEY_ARE))


def test_a_pool_reads_folders_beside_files(tmp_path):
    paths = [
        save_frames(tmp_path / "folder, 影片", numbered("{:03}.jpg")),
        save_video(tmp_path / "a.mp4", frames=20),
        save_frames(tmp_path / "harmed", numbered("{:03}.jpg")),
        tmp_path / "none",
        save_video(tmp_path / "b.avi", frames=20),
        save_frames(tmp_path / "b.mp4", numbered("{:03}.png", 3)),  # a folder, whatever it is called
    ]
    (paths[2] / "001.jpg").write_bytes(holed(encoded("JPEG")))
    sampling, preprocess = Sampling(4, clips=2, crops=3), Preprocess((32, 32), resize=40)
    results = {}
    with DecodePool(ClipSpec(sampling, preprocess), workers=1) as pool:
        for _ in range(2):  # the same worker, with all the decoders in it, serves twice
            for index, result in pool.decode(paths):
                with result:
                    results[index] = result
                    if index in (2, 3):
                        continue
                    here = decode_video(paths[index], ClipSpec(sampling, preprocess))
                    assert isinstance(result, Decoded), result
                    np.testing.assert_array_equal(result.pixels, here.pixels)
                    np.testing.assert_array_equal(result.timestamps, here.timestamps)
                    assert (result.decoder, result.note) == (here.decoder, here.note)
    assert isinstance(results[2], DecodeFailure)
    assert results[2].stage == "decode"
    assert results[2].reason.startswith("001.jpg is damaged: Corrupt JPEG data")
    assert isinstance(results[3], DecodeFailure)
    assert results[3].stage == "missing"
    assert results[5].decoder.startswith("images")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_refuses_images_with_too_many_pixels(tmp_path, kind):
    folder = save_frames(tmp_path / "video", numbered("{:03}.png", 4))
    path = folder / "002.png"
    content = io.BytesIO()
    picture(2).save(content, kind)
    data = bytearray(content.getvalue())
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 65000, 65000)
    else:
        data[16:24] = struct.pack(">II", 12000, 12000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"002\.png (is an image of 12000 x 12000|claims more) pixels"):
        decode_video(folder, ClipSpec(Sampling(4), AS_THEY_ARE))


def test_hanging_image_fails_only_its_own_video(tmp_path):
    folders = [save_frames(tmp_path / name, numbered("{:03}.png", 8)) for name in "abc"]
    (folders[1] / "004.png").unlink()
    os.mkfifo(folders[1] / "004.png")  # opening it waits for somebody who writes, and nobody does
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1, timeout_seconds=2) as pool:
        results = dict(pool.decode(folders))
        assert results[1].stage == "timeout"
        for index in (0, 2):
            assert np.array_equal(results[index].pixels[0], [np.asarray(picture(n)) for n in range(8)])
            results[index].release()


def test_an_extraction_takes_folders_and_files_together(tmp_path):
    names = numbered("img_{:05}.png", 12)
    folder = save_frames(tmp_path / "frames", names)
    twin = shutil.copytree(folder, tmp_path / "twin")
    broken = save_frames(tmp_path / "broken", names)
    (broken / names[0]).write_bytes(b"")
    video = save_video(tmp_path / "video.mp4", frames=12)
    videos = VideoList(Video(path.name, path, labels=("x",)) for path in (folder, video, broken, twin))
    summary = extract(videos, load_encoder("demo", device="cpu"), tmp_path / "cache", Sampling(4))
    [failure] = summary.failures
    assert (failure.id, failure.reason) == ("broken", "img_00001.png is empty (0 bytes)")
    cache = FeatureCache(tmp_path / "cache")
    assert cache.ids == ["frames", "twin", "video.mp4"]
    assert cache.frame_indices()[:, 0].tolist() == [[0, 3, 6, 9]] * 3
    np.testing.assert_array_equal(cache.frames([0]), cache.frames([1]))
    assert not np.array_equal(cache.frames([0]), cache.frames([2]))
    assert np.isnan(cache.timestamps([0, 1])).all()
    np.testing.assert_allclose(cache.timestamps([2])[0, 0], [0, 0.3, 0.6, 0.9], atol=1e-3)
    assert [video.n_frames for video in cache.videos] == [12, 12, 12]
    assert [video.duration_seconds for video in cache.videos] == [0, 0, pytest.approx(1.2, abs=0.05)]
    assert cache.videos[0].path == str(folder)
    assert [problem for file in verify(tmp_path / "cache") for problem in file.problems] == []
