"""Decoding by decord and PyAV: videos whose frames carry their own number."""

import os
import struct
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from numbered_videos import (
    AS_THEY_ARE,
    DEFAULT,
    GOOD,
    HEIGHT,
    RATE,
    ROTATIONS,
    WIDTH,
    edited,
    frame_numbers,
    numbered_frame,
    render,
    rotated,
    truncated,
    turning,
    without_a_slice,
    zeroed,
)
from vidclip.pipeline.video import (
    ClipSpec,
    Decoded,
    DecodeError,
    DecodePool,
    Preprocess,
    Sampling,
    VideoRequest,
    decode_video,
)
from vidclip.pipeline.video.decord_reader import import_decord
from vidclip.pipeline.video.native_stderr import capture_stderr

LYING = Preprocess((WIDTH, HEIGHT), resize_mode="squash")

has_decord = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import decord"], capture_output=True).returncode != 0,
    reason="decord is not installed here",
)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", GOOD)
def test_decodes_the_requested_frames(videos, name, decoder):
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
        assert np.array_equal(frame_numbers(decoded.pixels), expected)
        np.testing.assert_allclose(decoded.timestamps, expected / RATE, atol=2e-3)
        assert (decoded.n_frames, decoded.readable_frames, decoded.repeated) == (60, 60, False)
        assert decoded.duration_seconds == pytest.approx(60 / RATE, abs=0.05)
        if decoder == "pyav":
            assert decoded.note == ""


@has_decord
def test_decord_reads_only_files_it_counts_correctly(videos):
    for name, trusted in [
        ("h264.mp4", True),
        ("h264.mkv", True),
        ("open_gop.mp4", False),
        ("mpeg4.avi", False),
    ]:
        decoded = decode_video(videos / name, DEFAULT)
        assert decoded.decoder.startswith("decord" if trusted else "pyav"), name
        assert bool(decoded.note) != trusted


@has_decord
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no decord, nor /proc")
def test_decord_opens_no_library_of_nvidia(videos):
    """NVBLAS, opened for all, ends a process in which torch is imported afterwards."""
    program = (
        "import ctypes, sys; from pathlib import Path; from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, decode_video\n"
        f"decoded = decode_video({str(videos / 'h264.mp4')!r}, ClipSpec(Sampling(), Preprocess((32, 32))))\n"
        "assert decoded.decoder.startswith('decord'), decoded\n"
        "opened = [line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines() if 'nvidia' in line]\n"
        "assert opened == [] and 'nvidia' not in sys.modules and ctypes.RTLD_GLOBAL\n"
        "import torch\n"
        "attention = torch.nn.MultiheadAttention(64, 4)\n"
        "print(attention(*[torch.rand(9, 2, 64)] * 3)[0].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "torch.Size([9, 2, 64])\n"), done.stderr


@has_decord
def test_decord_alone_gives_wrong_frames(videos):
    """Why decord is not trusted with these files: when this fails, it may be."""
    decord = import_decord()

    for name in ("open_gop.mp4", "mpeg4.mp4", "h264.ts"):
        frames = decord.VideoReader(str(videos / name), num_threads=1).get_batch([5, 25, 50]).asnumpy()
        assert frame_numbers(frames).tolist() != [5, 25, 50], name
        with pytest.raises(DecodeError, match="decord"):
            decode_video(videos / name, DEFAULT, "decord")
    for name in ("fragmented.mp4", "no_edit_list.mp4"):  # their second key frame is the third frame
        first = decord.VideoReader(str(videos / name), num_threads=1).get_batch([0]).asnumpy()
        assert frame_numbers(first).tolist() != [0], name
        with pytest.raises(DecodeError, match="key frames are so close"):
            decode_video(videos / name, DEFAULT, "decord")


@pytest.mark.parametrize(
    "muxer",
    [{}, {"use_editlist": "0"}, {"movflags": "frag_keyframe+empty_moov"}],
    ids=["mp4", "plain", "parts"],
)
@pytest.mark.parametrize("start", [0, 7])
def test_key_frames_at_random_places(tmp_path, muxer, start):
    """Each frame alone, so that its key frame is looked for anew."""
    rng = np.random.default_rng(start)
    keys = set(rng.choice(40, 12, replace=False).tolist())
    options = {"bf": "2", "g": "300", "x264-params": "scenecut=0"}
    pts = [start + number for number in range(40)]
    path = render(tmp_path / "a.mp4", 40, pts=pts, muxer=muxer, keys=keys, **options)
    for number in range(0, 40, 3):
        request = VideoRequest(path, number / RATE, (number + 0.5) / RATE)
        decoded = decode_video(request, ClipSpec(Sampling(frames=1), AS_THEY_ARE))
        assert frame_numbers(decoded.pixels).tolist() == decoded.frame_indices.tolist() == [[number]]


def colored_frame(number, height, width):
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin((a * x + b * y) / 20 + number / 5) for a, b in ((1, 2), (2, 1), (1, -1))]
    return np.stack(waves, axis=-1).astype(np.uint8)


@has_decord
def test_both_decoders_give_the_same_pixels(videos):
    for name in GOOD:
        one, other = (
            decode_video(videos / name, ClipSpec(Sampling(), Preprocess((64, 64))), d)
            for d in ("auto", "pyav")
        )
        assert np.array_equal(one.pixels, other.pixels), name


@pytest.mark.parametrize(
    ("codec", "pixel_format", "height", "width"),
    [
        ("libx264", "yuv420p10le", 96, 128),
        ("libx264", "yuv444p", 95, 127),
        ("libx264", "yuv422p", 98, 130),
        ("mjpeg", "yuvj420p", 96, 128),
        ("libx264", "gray", 96, 128),
        ("libvpx-vp9", "yuv420p", 95, 127),
    ],
)
def test_decoders_agree_on_every_pixel_format(tmp_path, codec, pixel_format, height, width):
    decord = pytest.importorskip("decord")
    if decord.__version__ == "0.6.0":
        pytest.skip("its FFmpeg of 2018 converts colors of 10 bits, and of odd sides, otherwise")
    options = {"g": "5", "bf": "0"} if codec == "libx264" else {}
    path = render(
        tmp_path / "a.mov" if codec == "mjpeg" else tmp_path / "a.mkv",
        12,
        codec,
        draw=lambda number: colored_frame(number, height, width),
        pixel_format=pixel_format,
        **options,
    )
    spec = ClipSpec(Sampling(frames=12), Preprocess((height, width), resize_mode="squash"))
    one, other = (decode_video(path, spec, decoder) for decoder in ("decord", "pyav"))
    assert one.decoder.startswith("decord")
    assert np.array_equal(one.pixels, other.pixels)


def test_views_are_ordered_by_clip_then_crop(videos):
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
def test_short_video_repeats_frames_and_is_marked(tmp_path, decoder):
    decoded = decode_video(render(tmp_path / "a.mp4", 3), DEFAULT, decoder)
    assert decoded.repeated
    assert frame_numbers(decoded.pixels).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_variable_frame_rate_keeps_the_times(tmp_path, decoder):
    pts = np.cumsum([0] + [1, 5, 2] * 10)
    path = render(tmp_path / "vfr.mkv", len(pts), pts=pts.tolist())
    decoded = decode_video(path, ClipSpec(Sampling(frames=len(pts)), AS_THEY_ARE), decoder)
    assert np.array_equal(frame_numbers(decoded.pixels)[0], np.arange(len(pts)))
    np.testing.assert_allclose(decoded.timestamps[0], pts / RATE, atol=2e-3)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("degrees", ROTATIONS)
def test_rotation_flags_are_honored(tmp_path, degrees, decoder):
    stored, flagged = rotated(tmp_path, degrees)
    upright = decode_video(render(tmp_path / "upright.mp4", 12), DEFAULT, decoder)
    decoded = decode_video(flagged, DEFAULT, decoder)
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)
    assert np.abs(decoded.pixels.astype(int) - upright.pixels).mean() < 2
    if degrees != 180:  # and the same check sees it where the flag is missing
        ignored = decode_video(stored, DEFAULT, decoder)
        assert not np.array_equal(frame_numbers(ignored.pixels), ignored.frame_indices)


def test_skips_frames_hidden_by_an_edit_list(videos, tmp_path):
    path = edited(videos / "h264.mp4", tmp_path / "edited.mp4")
    for decoder in ("auto", "pyav"):
        decoded = decode_video(path, ClipSpec(Sampling(frames=30), AS_THEY_ARE), decoder)
        assert frame_numbers(decoded.pixels).tolist() == [list(range(20, 50))]
        assert (decoded.n_frames, decoded.readable_frames) == (30, 30)
        np.testing.assert_allclose(decoded.timestamps[0], np.arange(30) / RATE, atol=1e-6)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("harm", [truncated, zeroed])
def test_reads_the_readable_frames_of_a_damaged_video(videos, tmp_path, harm, decoder):
    path = harm(videos / "long.mp4", tmp_path / "harmed.mp4")
    decoded = decode_video(path, DEFAULT, decoder)
    assert decoded.decoder.startswith("pyav")
    assert decoded.n_frames == 60
    assert 10 < decoded.readable_frames < 50
    assert f"{60 - decoded.readable_frames} frames could not be read" in decoded.note
    assert np.array_equal(decoded.frame_indices, Sampling().frame_indices(decoded.readable_frames))
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)


def test_resumes_at_the_next_key_frame_after_a_hole(videos, tmp_path):
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
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("packet", [0, 15])
def test_notes_errors_that_the_codec_concealed(tmp_path, packet, decoder):
    sound = render(tmp_path / "sound.mp4", slices="4", bf="0")
    assert decode_video(sound, ClipSpec(Sampling(frames=60), AS_THEY_ARE), decoder).note == ""
    path = without_a_slice(sound, tmp_path / "harmed.mp4", packet)
    decoded = decode_video(path, ClipSpec(Sampling(frames=60), AS_THEY_ARE), decoder)
    assert decoded.note.startswith("damaged: ")
    assert f"{60 - decoded.readable_frames} frames could not be read" in decoded.note
    assert packet not in decoded.frame_indices
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)
    if decoder == "auto" and decoded.decoder.startswith("decord"):
        pytest.fail("decord's frames were taken")


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_notes_packets_that_the_demuxer_drops(tmp_path, decoder):
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
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)


@has_decord
def test_decord_logs_concealment_at_level_info_only(tmp_path):
    """Why its log is read at that level: when this fails, decord reports more, and can be trusted more."""
    decord = import_decord()

    path = without_a_slice(render(tmp_path / "sound.mp4", slices="4", bf="0"), tmp_path / "harmed.mp4", 15)
    found = {}
    for level in (decord.logging.ERROR, decord.logging.INFO):
        decord.logging.set_level(level)
        with capture_stderr() as lines:
            decord.VideoReader(str(path), num_threads=1).get_batch([15])
        found[level] = any("concealing" in line for line in lines)
    assert found == {decord.logging.ERROR: False, decord.logging.INFO: True}


@has_decord
def test_damage_is_noted_where_decord_was_imported_before_pyav(tmp_path):
    """decord2 then puts its FFmpeg in the place of PyAV's, which takes its messages away."""
    sound = render(tmp_path / "sound.mp4", slices="4", bf="0")
    harmed = without_a_slice(sound, tmp_path / "harmed.mp4", 15)
    code = (
        "import sys, decord\n"
        "from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, decode_video\n"
        "for path in sys.argv[1:]:\n"
        "    decoded = decode_video(path, ClipSpec(Sampling(frames=60), Preprocess((96, 128))))\n"
        "    print(decoded.note.startswith('damaged: '), 15 in decoded.frame_indices)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(sound), str(harmed)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True", "False"]


@pytest.mark.parametrize(
    "codec", ["mpeg4", "mpeg2video", "libx265", "libvpx", "libvpx-vp9", "flv", "wmv2", "ffv1", "libsvtav1"]
)
def test_notes_no_damage_of_sound_videos(tmp_path, codec):
    try:
        path = render(tmp_path / "sound.mkv", 20, codec=codec)
    except (av.error.FFmpegError, ValueError):
        pytest.skip(f"FFmpeg has no encoder {codec} here")
    for decoder in ("auto", "pyav"):
        decoded = decode_video(path, ClipSpec(Sampling(frames=20), AS_THEY_ARE), decoder)
        assert "damaged" not in decoded.note
        assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_frames_that_change_their_size_keep_their_proportions(tmp_path, decoder):
    path = turning(tmp_path / "turns.mkv")
    preprocess = Preprocess((64, 64), resize_mode="longest")
    decoded = decode_video(path, ClipSpec(Sampling(frames=2, position="middle"), preprocess), decoder)
    lying, upright = decoded.pixels[0].max(axis=-1) > 20  # black around them: the second one is narrow
    assert (lying[32].sum(), lying[:, 8].sum()) == (32, 48)
    assert (upright[32].sum(), upright[:, 16].sum()) == (24, 64)


def test_reads_only_the_listed_file(videos, tmp_path):
    """Texts that name other files, and names that are patterns or addresses, lead nowhere."""
    (tmp_path / "secret.mp4").write_bytes((videos / "h264.mp4").read_bytes())
    for number in range(3):
        Image.fromarray(numbered_frame(number)).save(tmp_path / f"{number:03d}.png")
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
            with pytest.raises(DecodeError, match="not a video|is no image") as error:
                decode_video(tmp_path / name, DEFAULT, decoder)
            assert error.value.stage == ("decode" if name.endswith(".png") else "open"), name


@pytest.mark.parametrize(
    "name", ["concat:a.mp4|b.mp4", "file:a.mp4", "http:a.mp4", "data:a.mp4", "a%03d.mp4"]
)
def test_names_that_look_like_urls_are_file_names(videos, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodeError, match="no such file"):
        decode_video(name, DEFAULT)
    (tmp_path / name).write_bytes((videos / "h264.mp4").read_bytes())
    decoded = decode_video(name, DEFAULT)
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)


def test_follows_links_as_the_system_does(tmp_path):
    (tmp_path / "elsewhere" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "inside")
    render(tmp_path / "x.mp4", 10)
    render(tmp_path / "elsewhere" / "x.mp4", 20)
    path = f"{tmp_path}/link/../x.mp4"
    assert os.path.samefile(path, tmp_path / "elsewhere" / "x.mp4")
    for decoder in ("auto", "pyav"):
        assert decode_video(path, DEFAULT, decoder).n_frames == 20


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_refuses_frames_with_too_many_pixels(tmp_path, decoder):
    path = tmp_path / "bomb.gif"
    Image.new("P", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 20000, 20000)  # a file of 48 bytes that claims 1.2 GB
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"frames of 20000 x 20000 pixels; 134,217,728 are the most"):
        decode_video(path, DEFAULT, decoder)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
def test_extremely_narrow_frames_take_little_memory(tmp_path):
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
def test_reports_why_a_file_is_no_video(tmp_path, name, make, stage, reason, decoder):
    make(tmp_path / name)
    with pytest.raises(DecodeError, match=reason) as error:
        decode_video(tmp_path / name, DEFAULT, decoder)
    assert error.value.stage == stage


def test_reports_a_video_without_readable_frames(videos, tmp_path):
    path = zeroed(videos / "long.mp4", tmp_path / "zeros.mp4", keep=0.001)
    with pytest.raises(DecodeError, match="0 readable frames, of 60"):
        decode_video(path, DEFAULT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_reports_missing_permission_for_a_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(DecodeError, match="permission denied"):
        decode_video(path, DEFAULT)
