"""Videos whose frames carry their own number, so that the pixels tell which frame they are."""

import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vidclip.pipeline.video import (
    ClipSpec,
    Decoded,
    DecodeError,
    DecodeFailure,
    DecodePool,
    DecodeWorkerError,
    Preprocess,
    Sampling,
    capture_stderr,
    decode_video,
)

HEIGHT, WIDTH = 96, 128
RATE = 25
AS_THEY_ARE = Preprocess((HEIGHT, WIDTH), resize_mode="squash")
LYING = Preprocess((WIDTH, HEIGHT), resize_mode="squash")

has_decord = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import decord"], capture_output=True).returncode != 0,
    reason="decord is not installed here",
)


def drawn(number):
    """A frame that shows its number: ten blocks, light for 1 and dark for 0."""
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for bit in range(10):
        if number >> bit & 1:
            top, left = 8 + bit // 5 * 40, 4 + bit % 5 * 25
            frame[top : top + 32, left : left + 20] = 220
    return frame


def numbers(frames):
    """The numbers that frames show, [..., H, W, 3] -> [...]."""
    blocks = [
        frames[..., 16 + b // 5 * 40 : 32 + b // 5 * 40, 8 + b % 5 * 25 : 20 + b % 5 * 25, :]
        for b in range(10)
    ]
    return sum((block.mean((-1, -2, -3)) > 130).astype(int) << bit for bit, block in enumerate(blocks))


def render(path, n_frames=60, codec="libx264", *, pts=None, draw=drawn, muxer=None, **options):
    defaults = {"libx264": {"g": "12", "bf": "2"}, "mpeg4": {"g": "12", "bf": "2"}}.get(codec, {})
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=defaults | options)
        stream.height, stream.width = draw(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(draw(number)), format="rgb24")
            if pts is not None:
                frame.pts = pts[number]
                frame.time_base = Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def patched(source, path, box, offset, data):
    """A copy of an MP4 file with the bytes at `offset` behind a box's name replaced."""
    content = bytearray(source.read_bytes())
    at = content.index(box) + 4 + offset
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A folder of good videos, the same 60 frames in each."""
    folder = tmp_path_factory.mktemp("videos")
    render(folder / "h264.mp4")
    render(folder / "h264.mkv")
    render(folder / "open_gop.mp4", **{"x264-params": "open-gop=1:b-adapt=0:scenecut=0:keyint=12:bframes=3"})
    render(folder / "intra_refresh.mp4", **{"x264-params": "intra-refresh=1:bframes=0:keyint=24"})
    render(folder / "mpeg4.mp4", codec="mpeg4")
    render(folder / "mpeg4.avi", codec="mpeg4")
    render(folder / "h264.ts")
    render(folder / "vp9.webm", codec="libvpx-vp9", g="12")
    render(folder / "long.mp4", muxer={"movflags": "faststart"})
    return folder


GOOD = [
    "h264.mp4",
    "h264.mkv",
    "open_gop.mp4",
    "intra_refresh.mp4",
    "mpeg4.mp4",
    "mpeg4.avi",
    "h264.ts",
    "vp9.webm",
]


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", GOOD)
def test_frames_are_the_ones_that_were_asked_for(videos, name, decoder):
    for sampling in (
        Sampling(),
        Sampling(frames=1, position="middle"),
        Sampling(frames=5, clips=3),
        Sampling(frames=60),
        Sampling(frames=7, position="middle"),
    ):
        decoded = decode_video(videos / name, ClipSpec(sampling, AS_THEY_ARE), decoder)
        expected = sampling.frame_indices(60)
        assert np.array_equal(decoded.frame_indices, expected)
        assert np.array_equal(numbers(decoded.pixels), expected)
        np.testing.assert_allclose(decoded.timestamps, expected / RATE, atol=2e-3)
        assert (decoded.n_frames, decoded.readable_frames, decoded.repeated) == (60, 60, False)
        assert decoded.duration_seconds == pytest.approx(60 / RATE, abs=0.05)
        if decoder == "pyav":
            assert decoded.note == ""


@has_decord
def test_decord_reads_what_it_reads_rightly(videos):
    for name, trusted in [
        ("h264.mp4", True),
        ("h264.mkv", True),
        ("open_gop.mp4", False),
        ("mpeg4.avi", False),
    ]:
        decoded = decode_video(videos / name, ClipSpec(Sampling(), AS_THEY_ARE))
        assert decoded.decoder.startswith("decord" if trusted else "pyav"), name
        assert bool(decoded.note) != trusted


@has_decord
def test_decord_alone_would_give_other_frames(videos):
    """Why it is not trusted: when this fails, decord has become better, and so can we."""
    import decord

    for name in ("open_gop.mp4", "mpeg4.mp4", "h264.ts"):
        frames = decord.VideoReader(str(videos / name), num_threads=1).get_batch([5, 25, 50]).asnumpy()
        assert numbers(frames).tolist() != [5, 25, 50], name
        with pytest.raises(DecodeError, match="decord"):
            decode_video(videos / name, ClipSpec(Sampling(), AS_THEY_ARE), "decord")


@has_decord
def test_both_decoders_give_the_same_pixels(videos):
    for name in GOOD:
        one, other = (
            decode_video(videos / name, ClipSpec(Sampling(), Preprocess((64, 64))), d)
            for d in ("auto", "pyav")
        )
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 2, name


def test_views_are_clip_by_clip_and_crop_by_crop(videos):
    sampling, preprocess = Sampling(frames=4, clips=4, crops=3), Preprocess((48, 48))
    whole = decode_video(videos / "h264.mp4", ClipSpec(Sampling(frames=60), AS_THEY_ARE)).pixels[0]
    decoded = decode_video(videos / "h264.mp4", ClipSpec(sampling, preprocess))
    assert decoded.pixels.shape == (12, 4, 48, 48, 3)
    for clip in range(4):
        for t, index in enumerate(decoded.frame_indices[clip]):
            assert np.array_equal(
                decoded.pixels[3 * clip : 3 * clip + 3, t], preprocess.pixels(whole[index], 3)
            )


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_short_video_repeats_frames_and_says_so(tmp_path, decoder):
    decoded = decode_video(render(tmp_path / "a.mp4", 3), ClipSpec(Sampling(), AS_THEY_ARE), decoder)
    assert decoded.repeated
    assert numbers(decoded.pixels).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_variable_frame_rate_keeps_the_times(tmp_path, decoder):
    pts = np.cumsum([0] + [1, 5, 2] * 10)
    path = render(tmp_path / "vfr.mkv", len(pts), pts=pts.tolist())
    decoded = decode_video(path, ClipSpec(Sampling(frames=len(pts)), AS_THEY_ARE), decoder)
    assert np.array_equal(numbers(decoded.pixels)[0], np.arange(len(pts)))
    np.testing.assert_allclose(decoded.timestamps[0], pts / RATE, atol=2e-3)


# The matrix of a track header (a, b, u, c, d, v; 16.16 fixed point), and quarter turns that undo it.
ROTATIONS = {90: ((0, 1, 0, -1, 0, 0), 1), 180: ((-1, 0, 0, 0, -1, 0), 2), 270: ((0, -1, 0, 1, 0, 0), 3)}


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("degrees", ROTATIONS)
def test_rotation_flags_are_honoured(tmp_path, degrees, decoder):
    matrix, turns = ROTATIONS[degrees]
    stored = render(tmp_path / "lying.mp4", 12, draw=lambda number: np.rot90(drawn(number), turns))
    flag = struct.pack(">6i", *(value << 16 for value in matrix))
    flagged = patched(stored, tmp_path / "flagged.mp4", b"tkhd", 40, flag)
    upright = decode_video(render(tmp_path / "upright.mp4", 12), ClipSpec(Sampling(), AS_THEY_ARE), decoder)
    decoded = decode_video(flagged, ClipSpec(Sampling(), AS_THEY_ARE), decoder)
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)
    assert np.abs(decoded.pixels.astype(int) - upright.pixels).mean() < 2
    if degrees != 180:  # and the same check sees it where the flag is missing
        ignored = decode_video(stored, ClipSpec(Sampling(), AS_THEY_ARE), decoder)
        assert not np.array_equal(numbers(ignored.pixels), ignored.frame_indices)


def test_frames_that_an_edit_list_hides_are_not_shown(videos, tmp_path):
    content = (videos / "h264.mp4").read_bytes()
    at = content.index(b"elst") + 12
    duration, media_time = struct.unpack(">II", content[at : at + 8])
    ticks = struct.unpack(">I", content[(m := content.index(b"mdhd") + 16) : m + 4])[0] // RATE
    edit = struct.pack(">II", duration * 30 // 60, media_time + 20 * ticks)
    path = patched(videos / "h264.mp4", tmp_path / "edited.mp4", b"elst", 8, edit)
    for decoder in ("auto", "pyav"):
        decoded = decode_video(path, ClipSpec(Sampling(frames=30), AS_THEY_ARE), decoder)
        assert numbers(decoded.pixels).tolist() == [list(range(20, 50))]
        assert (decoded.n_frames, decoded.readable_frames) == (30, 30)
        np.testing.assert_allclose(decoded.timestamps[0], np.arange(30) / RATE, atol=1e-6)


def damaged(source, path, keep):
    """The first part of a file, its frames cut off after the share `keep`; the header is in front."""
    content = source.read_bytes()
    data = content.index(b"mdat")
    cut = data + int((len(content) - data) * keep)
    return content[:cut], len(content), path


def truncated(source, path, keep=0.5):
    head, _, path = damaged(source, path, keep)
    path.write_bytes(head)
    return path


def zeroed(source, path, keep=0.5):
    head, length, path = damaged(source, path, keep)
    path.write_bytes(head.ljust(length, b"\0"))
    return path


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("harm", [truncated, zeroed])
def test_of_a_damaged_video_the_readable_frames_are_taken(videos, tmp_path, harm, decoder):
    path = harm(videos / "long.mp4", tmp_path / "harmed.mp4")
    decoded = decode_video(path, ClipSpec(Sampling(), AS_THEY_ARE), decoder)
    assert decoded.decoder.startswith("pyav")
    assert decoded.n_frames == 60
    assert 10 < decoded.readable_frames < 50
    assert f"{60 - decoded.readable_frames} frames could not be read" in decoded.note
    assert np.array_equal(decoded.frame_indices, Sampling().frame_indices(decoded.readable_frames))
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)


def test_after_a_hole_reading_goes_on_at_the_next_key_frame(videos, tmp_path):
    content = bytearray((videos / "long.mp4").read_bytes())
    with av.open(str(videos / "long.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keys = [n for n, packet in enumerate(packets) if packet.is_keyframe]
    assert len(keys) >= 4
    broken = packets[keys[1] + 1]  # the first packet that needs the second key frame
    content[broken.pos : broken.pos + broken.size] = bytes(broken.size)
    path = tmp_path / "hole.mp4"
    path.write_bytes(content)
    decoded = decode_video(path, ClipSpec(Sampling(frames=60), AS_THEY_ARE), "pyav")
    readable = [*range(keys[1] + 1), *range(keys[2], 60)]
    assert sorted(set(decoded.frame_indices[0].tolist())) == readable
    assert decoded.readable_frames == len(readable)
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)


def without_a_slice(source, path, packet):
    """A copy of an MP4 file, one H.264 slice of a frame renamed to what decoders skip: nothing else is wrong."""
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    at, size = packets[packet]
    end, slices, filler = at + size, [], 12
    while at < end:
        if content[at + 4] & 31 in (1, 5):
            slices.append(at + 4)
        at += 4 + int.from_bytes(content[at : at + 4], "big")
    assert len(slices) == 4
    content[slices[1]] = filler
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("packet", [0, 15])
def test_a_codec_that_conceals_errors_is_heard(tmp_path, packet, decoder):
    sound = render(tmp_path / "sound.mp4", slices="4", bf="0")
    assert decode_video(sound, ClipSpec(Sampling(frames=60), AS_THEY_ARE), decoder).note == ""
    path = without_a_slice(sound, tmp_path / "harmed.mp4", packet)
    decoded = decode_video(path, ClipSpec(Sampling(frames=60), AS_THEY_ARE), decoder)
    assert decoded.note.startswith("damaged: ")
    assert f"{60 - decoded.readable_frames} frames could not be read" in decoded.note
    assert packet not in decoded.frame_indices
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)
    if decoder == "auto" and decoded.decoder.startswith("decord"):
        pytest.fail("decord's frames were taken")


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_packets_that_the_demuxer_drops_with_a_line_in_its_log_are_missed(tmp_path, decoder):
    """Matroska: with a flag of lacing, a block's first bytes are read as sizes of parts, which they are not."""
    try:
        sound = render(tmp_path / "sound.mkv", codec="libvpx-vp9")
    except (av.error.FFmpegError, ValueError):
        pytest.skip("FFmpeg has no encoder of VP9 here")
    content = bytearray(sound.read_bytes())
    with av.open(str(sound)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    content[starts[35] + 3] |= 2
    path = tmp_path / "harmed.mkv"
    path.write_bytes(content)
    decoded = decode_video(path, ClipSpec(Sampling(frames=60), AS_THEY_ARE), decoder)
    assert "the file is damaged: Error parsing frame sizes" in decoded.note
    assert decoded.readable_frames < 60
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)


@has_decord
def test_what_decord_conceals_it_says_as_information_and_errors_hide_it(tmp_path):
    """Why it is heard at that level: when this fails, decord has become better, and so can we."""
    import decord

    path = without_a_slice(render(tmp_path / "sound.mp4", slices="4", bf="0"), tmp_path / "harmed.mp4", 15)
    heard = {}
    for level in (decord.logging.ERROR, decord.logging.INFO):
        decord.logging.set_level(level)
        with capture_stderr() as lines:
            decord.VideoReader(str(path), num_threads=1).get_batch([15])
        heard[level] = any("concealing" in line for line in lines)
    assert heard == {decord.logging.ERROR: False, decord.logging.INFO: True}


@pytest.mark.parametrize(
    "codec", ["mpeg4", "mpeg2video", "libx265", "libvpx", "libvpx-vp9", "flv", "wmv2", "ffv1"]
)
def test_of_sound_videos_no_damage_is_noted(tmp_path, codec):
    try:
        path = render(tmp_path / "sound.mkv", 20, codec=codec)
    except (av.error.FFmpegError, ValueError):
        pytest.skip(f"FFmpeg has no encoder {codec} here")
    for decoder in ("auto", "pyav"):
        decoded = decode_video(path, ClipSpec(Sampling(frames=20), AS_THEY_ARE), decoder)
        assert "damaged" not in decoded.note
        assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_frames_that_change_their_size_keep_their_proportions(tmp_path, decoder):
    encoded = []
    for start, (width, height) in [(0, (WIDTH, HEIGHT)), (20, (HEIGHT, WIDTH))]:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.options = Fraction(1, RATE), {"g": "10", "bf": "0"}
        for number in range(start, start + 20):
            picture = np.zeros((height, width, 3), np.uint8)
            picture[:, : width // 2] = 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            encoded += encoder.encode(frame)
        encoded += encoder.encode(None)
    with av.open(str(tmp_path / "turns.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for packet in encoded:
            packet.stream, packet.time_base = stream, Fraction(1, RATE)
            container.mux(packet)
    preprocess = Preprocess((64, 64), resize_mode="longest")
    decoded = decode_video(
        tmp_path / "turns.mkv", ClipSpec(Sampling(frames=2, position="middle"), preprocess), decoder
    )
    lying, upright = decoded.pixels[0].max(axis=-1) > 20  # black around them: the second one is narrow
    assert (lying[32].sum(), lying[:, 8].sum()) == (32, 48)
    assert (upright[32].sum(), upright[:, 16].sum()) == (24, 64)


def test_the_listed_file_alone_is_read(videos, tmp_path):
    """Texts that name other files, and names that are patterns or addresses, lead nowhere."""
    (tmp_path / "secret.mp4").write_bytes((videos / "h264.mp4").read_bytes())
    for number in range(3):
        Image.fromarray(drawn(number)).save(tmp_path / f"{number:03d}.png")
    segment = "#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n"
    texts = {
        "list.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
        "list.ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
        "hls.mp4": f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{segment}",
        "hls.m3u8": f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{segment}",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        'bandwidth="1"><BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
        "%03d.png": "no image",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        for decoder in ("auto", "pyav"):
            with pytest.raises(DecodeError, match="not a video") as error:
                decode_video(tmp_path / name, ClipSpec(Sampling(), AS_THEY_ARE), decoder)
            assert error.value.stage == "open", name


@pytest.mark.parametrize(
    "name", ["concat:a.mp4|b.mp4", "file:a.mp4", "http:a.mp4", "data:a.mp4", "a%03d.mp4"]
)
def test_a_name_that_looks_like_an_address_is_a_name(videos, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodeError, match="no such file"):
        decode_video(name, ClipSpec(Sampling(), AS_THEY_ARE))
    (tmp_path / name).write_bytes((videos / "h264.mp4").read_bytes())
    decoded = decode_video(name, ClipSpec(Sampling(), AS_THEY_ARE))
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)


def test_a_way_through_a_link_leads_to_where_the_system_says(tmp_path):
    (tmp_path / "elsewhere" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "inside")
    render(tmp_path / "x.mp4", 10)
    render(tmp_path / "elsewhere" / "x.mp4", 20)
    path = f"{tmp_path}/link/../x.mp4"
    assert os.path.samefile(path, tmp_path / "elsewhere" / "x.mp4")
    for decoder in ("auto", "pyav"):
        assert decode_video(path, ClipSpec(Sampling(), AS_THEY_ARE), decoder).n_frames == 20


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_frame_of_more_pixels_than_are_read_is_refused(tmp_path, decoder):
    path = tmp_path / "bomb.gif"
    Image.new("P", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 20000, 20000)  # a file of 48 bytes that claims 1.2 GB
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"frames of 20000 x 20000 pixels; 134,217,728 are the most"):
        decode_video(path, ClipSpec(Sampling(), AS_THEY_ARE), decoder)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
def test_a_frame_like_a_thread_takes_little_memory(tmp_path):
    def draw(number):
        return np.full((20000, 2, 3), number, np.uint8)

    path = render(tmp_path / "thread.mkv", 2, codec="rawvideo", draw=draw)
    with DecodePool(
        ClipSpec(Sampling(frames=1, crops=3), Preprocess((224, 224))), workers=1, memory_gib=0.25
    ) as pool:
        [(_, result)] = pool.decode([path])  # resized whole, it would take 1.5 GB
        assert isinstance(result, Decoded)
        assert result.pixels.shape == (3, 1, 224, 224, 3)


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize(
    ("name", "make", "stage", "reason"),
    [
        ("none.mp4", lambda _: None, "missing", "no such file"),
        ("empty.mp4", lambda path: path.touch(), "open", r"is empty \(0 bytes\)"),
        ("text.mp4", lambda path: path.write_text("hello\n" * 99), "open", "not a video: Invalid data"),
        ("folder.mp4", lambda path: path.mkdir(), "open", "is a folder without images"),
        ("sound.wav", sound_only, "open", "no video stream"),
    ],
)
def test_what_is_no_video_says_why(tmp_path, name, make, stage, reason, decoder):
    make(tmp_path / name)
    with pytest.raises(DecodeError, match=reason) as error:
        decode_video(tmp_path / name, ClipSpec(Sampling(), AS_THEY_ARE), decoder)
    assert error.value.stage == stage


def test_without_a_readable_frame_both_reasons_are_given(videos, tmp_path):
    path = zeroed(videos / "long.mp4", tmp_path / "zeros.mp4", keep=0.001)
    with pytest.raises(DecodeError, match="0 readable frames, of 60"):
        decode_video(path, ClipSpec(Sampling(), AS_THEY_ARE))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(DecodeError, match="permission denied"):
        decode_video(path, ClipSpec(Sampling(), AS_THEY_ARE))


# ---- many videos, in worker processes


@pytest.fixture
def tricks(tmp_path, monkeypatch):
    """A module whose `decode` does what the name of a file says, before it decodes."""
    (tmp_path / "decoding_tricks.py").write_text(
        textwrap.dedent("""
        import ctypes, os, pathlib
        from vidclip.pipeline.video import decode_request

        def decode(request, clip_spec, decoder):
            name = os.path.basename(request.path)
            if "pid" in name:
                pathlib.Path(request.path + ".pid").write_text(str(os.getpid()))
            if "always" in name or decoder == "auto":
                if "hang" in name:
                    ctypes.PyDLL(None).sleep(600)  # holds the GIL, as decord does
                if "abort" in name:
                    os.write(2, b"something went wrong inside\\n")
                    os.abort()
            if "raise" in name:
                raise ZeroDivisionError("a bug")
            if "signal" in name:
                os.kill(os.getpid(), 37)
            if "chatter" in name:
                for _ in range(300):
                    os.write(2, b"x" * 10**5)
                os.write(2, b"\\nthe last line\\n")
                os._exit(1)
            if "babble" in name:
                import stat
                for descriptor in range(3, 64):  # the replies are the pipe that can be written to
                    try:
                        os.write(descriptor, b"\\xff" * 64)
                    except OSError:
                        pass
            if "greedy" in name:
                hoard = [bytearray(1 << 26) for _ in range(64)]
            if "bad_alloc" in name:
                os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\\n")
                os.abort()
            if "surrogate" in name:
                raise ValueError("no \\udcff name")
            return decode_request(request, clip_spec, decoder)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "decoding_tricks:decode"


def copies(videos, folder, *names):
    for name in names:
        (folder / name).write_bytes((videos / "h264.mp4").read_bytes())
    return [folder / name for name in names]


def display_pts(result):
    """The frame numbers of a result, which is given back."""
    with result:
        assert isinstance(result, Decoded), result
        return numbers(result.pixels).tolist()


def test_a_pool_gives_what_decoding_here_gives(videos, tmp_path, capfd):
    harmed = zeroed(videos / "long.mp4", tmp_path / "zeroed tail, ünïcode 影片.mp4")
    paths = [*(videos / name for name in GOOD), harmed, tmp_path / "none.mp4", str(videos / "h264.mkv")]
    sampling, preprocess = Sampling(frames=4, clips=2, crops=3), Preprocess((32, 32), resize=40)
    with DecodePool(ClipSpec(sampling, preprocess), workers=2, slots=3) as pool:
        for _ in range(2):  # the same workers serve twice
            seen = []
            for index, result in pool.decode(paths):
                seen.append(index)
                with result:
                    if index == 9:
                        assert isinstance(result, DecodeFailure)
                        assert (result.stage, result.reason) == ("missing", "no such file")
                        continue
                    here = decode_video(paths[index], ClipSpec(sampling, preprocess))
                    assert isinstance(result, Decoded)
                    assert np.array_equal(result.pixels, here.pixels)
                    assert result.facts() == here.facts()
            assert seen == list(range(len(paths)))
    assert capfd.readouterr() == ("", "")  # the decoders' complaints do not reach the user's terminal


def test_results_come_as_they_are_finished_when_asked(videos):
    paths = [videos / "h264.mp4"] * 12
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2) as pool:
        seen = []
        for index, result in pool.decode(paths, ordered=False):
            seen.append(index)
            display_pts(result)
    assert sorted(seen) == list(range(12))


def test_a_decoder_that_hangs_or_crashes_costs_its_own_video_alone(videos, tmp_path, tricks):
    names = [
        "a.mp4",
        "hang.mp4",
        "b.mp4",
        "hang always.mp4",
        "abort.mp4",
        "abort always.mp4",
        "raise.mp4",
        "c.mp4",
    ]
    paths = copies(videos, tmp_path, *names)
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2, timeout_seconds=3, decode=tricks) as pool:
        results = {}
        for index, result in pool.decode(paths, ordered=False):
            with result:
                if isinstance(result, Decoded):
                    assert np.array_equal(numbers(result.pixels), Sampling().frame_indices(60))
            results[names[index]] = result
    assert set(results) == set(names)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        assert isinstance(results[name], Decoded)
    assert results["hang.mp4"].decoder.startswith("pyav")
    assert results["hang.mp4"].note == "auto: no answer within 3 s"
    assert results["hang always.mp4"].stage == "timeout"
    assert results["hang always.mp4"].reason == "auto: no answer within 3 s; pyav: no answer within 3 s"
    assert results["abort.mp4"].decoder.startswith("pyav")
    assert "died of SIGABRT (something went wrong inside)" in results["abort.mp4"].note
    assert results["abort always.mp4"].stage == "crash"
    assert "SIGABRT" in results["abort always.mp4"].reason
    assert results["raise.mp4"].reason == "ZeroDivisionError: a bug"


def test_however_a_worker_ends_it_costs_its_own_video_alone(videos, tmp_path, tricks):
    names = ["signal.mp4", "chatter.mp4", "babble.mp4", "surrogate.mp4", "a.mp4", "b.mp4"]
    paths = copies(videos, tmp_path, *names)
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2, decode=tricks) as pool:
        results = {}
        for index, result in pool.decode(paths, ordered=False):
            result.release()
            results[names[index]] = result
    assert isinstance(results["a.mp4"], Decoded)
    assert isinstance(results["b.mp4"], Decoded)
    assert results["signal.mp4"].stage == "crash"
    assert "the decoding process died of signal 37" in results["signal.mp4"].reason
    assert results["chatter.mp4"].reason.endswith("ended with status 1 (the last line)")
    assert results["babble.mp4"].stage == "crash"
    assert "its replies make no sense" in results["babble.mp4"].reason
    assert results["surrogate.mp4"].reason == r"ValueError: no \udcff name"


def test_of_what_a_worker_writes_to_its_standard_error_the_end_alone_is_kept(videos, tmp_path, tricks):
    paths = copies(videos, tmp_path, "chatter.mp4")
    tracemalloc.start()
    try:
        with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1, decode=tricks) as pool:
            [(_, result)] = pool.decode(paths)
        assert isinstance(result, DecodeFailure)
        assert tracemalloc.get_traced_memory()[1] < 5e6  # the worker writes 30 MB
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
def test_a_video_that_needs_more_memory_than_a_worker_may_take_is_named(videos, tmp_path, tricks):
    names = ["greedy always.mp4", "bad_alloc.mp4", "a.mp4"]
    paths = copies(videos, tmp_path, *names)
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1, decode=tricks, memory_gib=0.5) as pool:
        results = [result for _, result in pool.decode(paths)]
    for result in results[:2]:
        assert result.stage == "memory"
        assert result.reason == "needs more than 0.5 GiB to decode; --worker-memory raises the limit"
    assert isinstance(results[2], Decoded)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
def test_large_frames_meet_the_limit_and_small_ones_do_not(videos, tmp_path):
    def draw(number):
        return np.full((8192, 8192, 3), number, np.uint8)

    large = render(tmp_path / "large.mkv", 2, draw=draw, preset="ultrafast", bf="0", g="1")
    with DecodePool(ClipSpec(Sampling(frames=1), Preprocess((32, 32))), workers=1, memory_gib=0.25) as pool:
        (_, failure), (_, small) = pool.decode([large, videos / "h264.mp4"])
        assert isinstance(failure, DecodeFailure)
        assert failure.stage == "memory"
        small.release()
    with DecodePool(ClipSpec(Sampling(frames=1), Preprocess((32, 32))), workers=1) as pool:
        for _, result in pool.decode([large]):
            assert isinstance(result, Decoded)


def test_paths_are_taken_as_slots_allow(videos):
    taken = []

    def paths():
        for number in range(20):
            taken.append(number)
            yield videos / "h264.mp4"

    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2, slots=3) as pool:
        for yielded, (index, result) in enumerate(pool.decode(paths())):
            assert index == yielded
            assert len(taken) <= yielded + 3
            display_pts(result)
    assert len(taken) == 20


def test_pixels_stay_as_they_are_until_they_are_released(tmp_path):
    paths = [render(tmp_path / f"{n}.mp4", 10 + 7 * n) for n in range(5)]
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2, slots=5) as pool:
        held = [result for _, result in pool.decode(paths)]
        for n, result in enumerate(held):
            assert isinstance(result, Decoded)
            assert np.array_equal(numbers(result.pixels), Sampling().frame_indices(10 + 7 * n))
        held[0].release()
        held[0].release()  # twice is once
        assert held[0].pixels.size == 0
    display_pts(held[1])  # the pool is closed: what was handed out stays


def test_holding_all_slots_and_asking_for_more_is_an_error_not_a_hang(videos):
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1, slots=2) as pool:
        results = pool.decode([videos / "h264.mp4"] * 3)
        held = [next(results), next(results)]
        with pytest.raises(RuntimeError, match="All 2 slots of the DecodePool are held"):
            next(results)
        assert len(held) == 2


def test_another_thread_may_release(videos):
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1, slots=1) as pool:
        n_done = 0
        for _, result in pool.decode([videos / "h264.mp4"] * 4):
            threading.Timer(0.05, result.release).start()
            n_done += 1
    assert n_done == 4


def test_a_call_that_is_left_in_the_middle_leaves_nothing_behind(videos):
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2, slots=2) as pool:
        for _ in range(3):
            results = pool.decode([videos / "h264.mp4"] * 10)
            next(results)[1].release()
            with pytest.raises(RuntimeError, match="one call of decode"):
                next(pool.decode([]))
            results.close()
        done = [display_pts(result) for _, result in pool.decode([videos / "h264.mp4"] * 3)]
    assert len(done) == 3


def test_settings_that_cannot_be_are_named():
    for settings, message in [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": 1, "slots": 0}, "slots must be at least 1"),
        ({"workers": 1, "timeout_seconds": 0}, "timeout_seconds must be above 0"),
        ({"workers": 1, "timeout_seconds": math.inf}, "timeout_seconds must be above 0 and finite, got inf"),
        ({"workers": 1, "timeout_seconds": math.nan}, "timeout_seconds must be above 0 and finite, got nan"),
        ({"workers": 1, "memory_gib": 0}, "memory_gib must be at least 0.25 and finite, or None"),
        ({"workers": 1, "memory_gib": math.nan}, "memory_gib must be at least 0.25 and finite, or None"),
        ({"workers": 1, "decoder": "opencv"}, "decoder must be one of auto, decord, pyav"),
    ]:
        with pytest.raises(ValueError, match=message):
            DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), **settings)


def test_a_time_limit_may_be_as_long_as_one_likes(videos):
    with DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1, timeout_seconds=1e300) as pool:
        assert [display_pts(result) for _, result in pool.decode([videos / "h264.mp4"])]


def test_workers_that_cannot_start_end_the_run_with_their_last_words(videos):
    with (
        DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=2, decode="no_such_module:decode") as pool,
        pytest.raises(DecodeWorkerError, match=r"do not start.*No module named 'no_such_module'"),
    ):
        list(pool.decode([videos / "h264.mp4"]))


def test_a_closed_pool_says_so(videos):
    pool = DecodePool(ClipSpec(Sampling(), AS_THEY_ARE), workers=1)
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(pool.decode([videos / "h264.mp4"]))


def test_a_pool_is_closed_while_a_decoder_hangs(videos, tmp_path, tricks):
    paths = copies(videos, tmp_path, "a.mp4", "hang always pid.mp4")
    note = tmp_path / "hang always pid.mp4.pid"
    clip_spec = ClipSpec(Sampling(), AS_THEY_ARE)
    with DecodePool(clip_spec, workers=2, timeout_seconds=3600, decode=tricks) as pool:
        results = pool.decode(paths)
        display_pts(next(results)[1])
        wait_for(lambda: note.exists() and note.read_text())
    assert not alive(int(note.read_text()))
    with pytest.raises(RuntimeError, match="was closed while it was decoding"):
        next(results)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an alarm ends them, later")
def test_workers_die_with_their_parent_even_while_they_hang(videos, tmp_path, tricks):
    hanging, idle = copies(videos, tmp_path, "hang always pid.mp4", "idle pid.mp4")
    script = tmp_path / "script.py"  # a user's script: no main guard, and a module beside it
    script.write_text(
        textwrap.dedent(f"""
        from vidclip.pipeline.video import ClipSpec, DecodePool, Preprocess, Sampling
        clip_spec = ClipSpec(Sampling(), Preprocess((32, 32)))
        pool = DecodePool(clip_spec, workers=2, timeout_seconds=600, decode={tricks!r})
        for _ in pool.decode({[str(idle), str(hanging)]}):
            print("one is done", flush=True)
        """)
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "one is done\n"
    notes = [path.with_name(path.name + ".pid") for path in (hanging, idle)]
    wait_for(lambda: all(note.exists() and note.read_text() for note in notes))
    workers = [int(note.read_text()) for note in notes]
    assert parent.pid not in workers  # one of them has done both where the other was slow to start
    assert all(alive(worker) for worker in workers)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not any(alive(worker) for worker in workers))


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("waited for half a minute in vain")
