"""Segments of videos whose frames carry their own number, so that the pixels tell which frame they are."""

from __future__ import annotations

import av
import numpy as np
import pytest

from helpers import save_video
from numbered_videos import AS_THEY_ARE, DEFAULT, RATE, frame_numbers, render
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
    Sampling,
    VideoRequest,
    decode_video,
)

# Which reader each comes to with `auto`: decord, PyAV by time stamps, and PyAV by counting twice.
FILES = {"a.mp4": "libx264", "b.ts": "libx264", "c.avi": "mpeg4", "d.webm": "libvpx-vp9"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segments")
    for name, codec in FILES.items():
        render(folder / name, codec=codec, sc_threshold="0")  # groups of 12 pictures
    return folder


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", FILES)
def test_frames_are_chosen_inside_the_segment_and_counted_in_the_whole_video(videos, name, decoder):
    # Of 60 frames at 25 a second, those from 0.4 s up to before 1.2 s are the frames 10 to 29.
    for start, end, first, n in [(0.4, 1.2, 10, 20), (None, 0.5, 0, 13), (1.62, None, 41, 19), (0, 9, 0, 60)]:
        request = VideoRequest(videos / name, start, end)
        uniform = [first + i * n // 5 for i in range(5)]
        middle = [first + (2 * i + 1) * n // 6 for i in range(3)]
        dense = [first + 32 * i % n for i in range(4)]
        for sampling, expected in [
            (Sampling(5), uniform),
            (Sampling(3, position="middle"), middle),
            (Sampling(4, mode="dense"), dense),
            (Sampling(n), list(range(first, first + n))),
        ]:
            decoded = decode_video(request, ClipSpec(sampling, AS_THEY_ARE), decoder)
            assert decoded.frame_indices.tolist() == [expected]
            assert frame_numbers(decoded.pixels).tolist() == [expected]
            np.testing.assert_allclose(decoded.timestamps[0], np.array(expected) / RATE, atol=2e-3)
            assert (decoded.n_frames, decoded.readable_frames) == (60, 60)
            assert decoded.duration_seconds == pytest.approx(60 / RATE, abs=0.05)


def test_clips_are_spread_inside_the_segment(videos):
    decoded = decode_video(
        VideoRequest(videos / "a.mp4", 0.4, 1.2), ClipSpec(Sampling(5, clips=2), AS_THEY_ARE)
    )
    # 20 frames, 5 a clip: the second clip is shifted by 20 / 5 - 1 = 3.
    assert decoded.frame_indices.tolist() == [[10, 14, 18, 22, 26], [13, 17, 21, 25, 29]]
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)


def test_short_segment_repeats_its_own_frames(videos):
    decoded = decode_video(VideoRequest(videos / "a.mp4", 0.4, 0.48), ClipSpec(Sampling(4), AS_THEY_ARE))
    assert decoded.repeated
    assert frame_numbers(decoded.pixels).tolist() == [[10, 10, 11, 11]]


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", FILES)
def test_segment_beyond_the_end_gives_existing_frames_and_a_note(videos, name, decoder):
    end = decode_video(videos / name, ClipSpec(Sampling(1), AS_THEY_ARE), decoder)
    over = decode_video(VideoRequest(videos / name, 2, 80.25), ClipSpec(Sampling(4), AS_THEY_ARE), decoder)
    assert frame_numbers(over.pixels).tolist() == [[50, 52, 55, 57]]
    assert "the segment 2.0 to 80.25 s ends after the video's end at 2.4 s" in over.note
    rounded = decode_video(VideoRequest(videos / name, 2, 2.5), ClipSpec(Sampling(4), AS_THEY_ARE), decoder)
    assert np.array_equal(rounded.pixels, over.pixels)
    assert rounded.note == end.note, "a tenth of a second is somebody's rounding"


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (70, 80, "the segment 70.0 to 80.0 s begins after the video's end at 2.4 s"),
        (2.4, 3.125, "the segment 2.4 to 3.125 s begins after the video's end at 2.4 s"),
        (7.5, None, "the segment from 7.5 s begins after the video's end at 2.4 s"),
        (0.41, 0.43, "the segment 0.41 to 0.43 s has no frame: those next to it are at 0.4 s and 0.44 s"),
        (2.38, 3, "the segment 2.38 to 3.0 s has no frame: those next to it are at 2.36 s"),
    ],
)
def test_empty_segment_reports_the_nearest_frames(videos, name, decoder, start, end, reason):
    with pytest.raises(DecodeError) as error:
        decode_video(VideoRequest(videos / name, start, end), DEFAULT, decoder)
    assert (error.value.stage, error.value.reason) == ("decode", reason)


def test_rejects_invalid_bounds():
    for start, end in [(3, 2), (2, 2), (-1, 2), (float("nan"), None), (None, 0)]:
        with pytest.raises(ValueError, match=r"A segment needs 0 <= start_seconds < end_seconds"):
            VideoRequest("a.mp4", start, end)


def damaged(source, path, harm):
    """A copy with packets zeroed: the first group of pictures, half its key frame, or one in the second group."""
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    second_key = [n for n, packet in enumerate(packets) if packet.is_keyframe][1]
    lost = {"group": range(second_key), "key frame": [0], "hole": [second_key + 1]}[harm]
    content = bytearray(source.read_bytes())
    for packet in (packets[n] for n in lost):
        kept = packet.size // 2 if harm == "key frame" else 0
        content[packet.pos + kept : packet.pos + packet.size] = bytes(packet.size - kept)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("harm", ["group", "key frame", "hole"])
@pytest.mark.parametrize("name", ["a.mp4", "c.avi"])
def test_lost_frames_do_not_shift_a_segment(videos, tmp_path, name, harm):
    path = damaged(videos / name, tmp_path / name, harm)
    whole = decode_video(path, ClipSpec(Sampling(60), AS_THEY_ARE))
    assert whole.readable_frames < 60, "the harm was done"
    decoded = decode_video(VideoRequest(path, 1.2, 1.6), ClipSpec(Sampling(10), AS_THEY_ARE))
    shown = frame_numbers(decoded.pixels)
    assert shown.tolist() == [list(range(30, 40))]
    np.testing.assert_allclose(decoded.timestamps[0], shown[0] / RATE, atol=2e-3)


def test_lost_segment_reports_the_nearest_frames(videos, tmp_path):
    path = damaged(videos / "a.mp4", tmp_path / "a.mp4", "group")
    with pytest.raises(
        DecodeError,
        match=r"0\.0 to 0\.2 s has no frame: those next to it are at 0\.\d+ s \(\d+ frames could not be read\)",
    ):
        decode_video(VideoRequest(path, 0, 0.2), DEFAULT)


def test_segments_of_one_file_in_one_call(videos):
    requests = [VideoRequest(videos / "a.mp4", n / RATE, (n + 5) / RATE) for n in range(0, 60, 5)]
    requests[4] = VideoRequest(videos / "a.mp4", 70, 80)
    with DecodePool(ClipSpec(Sampling(5), AS_THEY_ARE), workers=2) as pool:
        for index, result in pool.decode([*requests, videos / "a.mp4"]):
            with result:
                if index == 4:
                    assert isinstance(result, DecodeFailure)
                    assert result.reason == "the segment 70.0 to 80.0 s begins after the video's end at 2.4 s"
                    continue
                assert isinstance(result, Decoded)
                step, first = (12, 0) if index == len(requests) else (1, 5 * index)
                assert frame_numbers(result.pixels).tolist() == [[first + step * i for i in range(5)]]


def drawn_frames(pool, requests):
    """Frame numbers [T] of each request, as the pixels show them."""
    found = []
    for _, result in pool.decode(requests):
        with result:
            assert isinstance(result, Decoded), result
            assert np.array_equal(frame_numbers(result.pixels), result.frame_indices)
            found.append(result.frame_indices[0].tolist())
    return found


def test_a_draw_gives_the_same_random_frames_in_every_worker(videos):
    clip_spec = ClipSpec(Sampling(5, position="random"), AS_THEY_ARE)
    draws = [(1, epoch, video) for epoch in range(3) for video in range(2)]
    requests = [VideoRequest(videos / name, draw=draw) for draw in draws for name in FILES]
    requests += [VideoRequest(videos / "a.mp4", 0.4, 1.2, draw=draw) for draw in draws]
    with DecodePool(clip_spec, workers=2) as pool:
        once, again = drawn_frames(pool, requests), drawn_frames(pool, requests[::-1])
    assert once == again[::-1]
    assert once == [decode_video(request, clip_spec).frame_indices[0].tolist() for request in requests]
    for number, frames in enumerate(once):
        first, n = (10, 20) if number >= len(draws) * len(FILES) else (0, 60)
        assert all(first + i * n // 5 <= frame < first + (i + 1) * n // 5 for i, frame in enumerate(frames))
    of_a = [tuple(frames) for frames in once[: len(draws) * len(FILES) : len(FILES)]]
    assert len(set(of_a)) == len(draws), "each epoch and each video draws anew"
    expected = [np.random.default_rng(draw).integers(range(0, 60, 12), range(12, 61, 12)) for draw in draws]
    assert np.array_equal(of_a, expected)


def test_draws_repeat_the_frames_of_a_short_segment(videos):
    request = VideoRequest(videos / "a.mp4", 0.4, 0.48, draw=(0, 0, 0))
    decoded = decode_video(request, ClipSpec(Sampling(4, position="random"), AS_THEY_ARE))
    assert frame_numbers(decoded.pixels).tolist() == [[10, 10, 11, 11]]
    assert decoded.repeated


@pytest.mark.parametrize(("position", "draw"), [("random", None), ("start", (1, 2, 3))])
def test_random_frames_and_a_draw_need_each_other(videos, position, draw):
    clip_spec = ClipSpec(Sampling(4, position=position), AS_THEY_ARE)
    request = VideoRequest(videos / "a.mp4", draw=draw)
    with pytest.raises(ValueError, match="need each other"):
        decode_video(request, clip_spec)
    with DecodePool(clip_spec, workers=1) as pool, pytest.raises(ValueError, match="need each other"):
        list(pool.decode([request]))


def test_rejects_invalid_draws():
    assert VideoRequest("a.mp4", draw=[np.int64(1), 2]).draw == (1, 2)
    for draw in ((1, -1), ()):
        with pytest.raises(ValueError, match="draw must be whole numbers of at least 0"):
            VideoRequest("a.mp4", draw=draw)


def test_features_of_random_frames_are_not_stored(videos, tmp_path):
    encoder, listed = load_encoder("demo", device="cpu"), VideoList([Video("a", videos / "a.mp4")])
    with pytest.raises(ValueError, match="Features of random frames cannot be stored"):
        extract(listed, encoder, tmp_path / "cache", Sampling(2, position="random"))
    assert not (tmp_path / "cache").exists()


def test_extraction_keeps_each_segment_under_its_own_id(tmp_path):
    path = save_video(tmp_path / "match.mp4", frames=60, size=64, fps=10)
    spans = {"match.mp4": (None, None), "match.mp4#t=1.5,3": (1.5, 3.0), "match.mp4#t=4,9": (4.0, 9.0)}
    spans["match.mp4#t=60,70"] = (60.0, 70.0)
    videos = VideoList(Video(id, path, start_seconds=a, end_seconds=b) for id, (a, b) in spans.items())
    encoder = load_encoder("demo", device="cpu")
    summary = extract(videos, encoder, tmp_path / "cache", Sampling(5))
    [failure] = summary.failures
    assert (failure.id, failure.stage) == ("match.mp4#t=60,70", "decode")
    assert failure.reason == "the segment 60.0 to 70.0 s begins after the video's end at 6.0 s"
    cache = FeatureCache(tmp_path / "cache")
    found = {
        id: (cache.frame_indices([cache.index(id)])[0, 0].tolist(), cache.videos[cache.index(id)].note)
        for id in cache.ids
    }
    assert found == {
        "match.mp4": ([0, 12, 24, 36, 48], ""),
        "match.mp4#t=1.5,3": ([15, 18, 21, 24, 27], ""),
        "match.mp4#t=4,9": (
            [40, 44, 48, 52, 56],
            "the segment 4.0 to 9.0 s ends after the video's end at 6.0 s",
        ),
    }
    np.testing.assert_allclose(cache.timestamps()[:, 0], cache.frame_indices()[:, 0] / 10, atol=1e-3)
    assert {video.path for video in cache.videos} == {str(path)}
    assert {video.duration_seconds for video in cache.videos} == {6.0}
    # Frames 24 and 48 are in two of them each: the same picture, the same embedding.
    whole, early, late = (cache.frames([row])[0, 0].astype(float) for row in range(3))
    np.testing.assert_allclose([whole[2], whole[4]], [early[3], late[2]], rtol=2e-2, atol=2e-3)
    assert not np.allclose(whole[2], whole[4], rtol=2e-2, atol=2e-3), "and other pictures have others"
    assert [problem for file in verify(tmp_path / "cache") for problem in file.problems] == []


def test_extraction_rejects_invalid_bounds_at_once(tmp_path):
    wrong = Video("b#t=3,2", tmp_path / "b", start_seconds=3, end_seconds=2, origin="list.csv, row 7")
    with pytest.raises(ValueError, match=r"list\.csv, row 7: A segment needs 0 <= start_seconds < end"):
        extract(VideoList([wrong]), load_encoder("demo", device="cpu"), tmp_path / "cache", Sampling(2))
