"""Decoding by torchcodec: videos whose frames carry their own number. Skipped where it, or an FFmpeg for it, is missing."""

import importlib.util
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from helpers import save_video, vidclip
from numbered_videos import (
    AS_THEY_ARE,
    DEFAULT,
    GOOD,
    RATE,
    ROTATIONS,
    edited,
    frame_numbers,
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
    DecodeFailure,
    DecodePool,
    DecoderUnavailable,
    Preprocess,
    Sampling,
    VideoRequest,
    decode_video,
)

READ = [name for name in GOOD if not name.endswith(".avi")]
GPU = pytest.param("torchcodec-cuda", marks=pytest.mark.gpu)


@pytest.fixture
def decoder(request):
    """The decoder of a test, which is skipped where this machine does not have it."""
    name = getattr(request, "param", "torchcodec")
    return available(name)


def available(name):
    from vidclip.pipeline.video.torchcodec_setup import prepare

    try:
        prepare(name)
    except DecoderUnavailable as error:
        pytest.skip(str(error))
    return name


def is_near(one, other, decoder):
    """On a CPU the pixels are PyAV's, though the FFmpeg is another; a GPU rounds colors otherwise."""
    return np.abs(one.astype(int) - other).max() <= (0 if decoder == "torchcodec" else 6)


def decode_or_skip(path, clip_spec, decoder):
    """GPUs decode different codecs and sizes: what this one refuses is not tested."""
    try:
        return decode_video(path, clip_spec, decoder)
    except DecodeError as error:
        if decoder == "torchcodec-cuda" and "the GPU does not decode" in error.reason:
            pytest.skip(error.reason)
        raise


@pytest.mark.parametrize("decoder", ["torchcodec", GPU], indirect=True)
@pytest.mark.parametrize("name", READ)
def test_decodes_the_requested_frames(videos, name, decoder):
    for sampling in (Sampling(), Sampling(1, position="middle"), Sampling(5, clips=3), Sampling(60)):
        decoded = decode_or_skip(videos / name, ClipSpec(sampling, AS_THEY_ARE), decoder)
        assert decoded.decoder.startswith("torchcodec ")
        assert decoded.decoder.endswith("cuda") == (decoder == "torchcodec-cuda")
        assert np.array_equal(decoded.frame_indices, sampling.frame_indices(60))
        assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)
        other = decode_video(videos / name, ClipSpec(sampling, AS_THEY_ARE), "pyav")
        assert is_near(decoded.pixels, other.pixels, decoder)
        assert {**decoded.facts(), "decoder": ""} == {**other.facts(), "decoder": ""}


@pytest.mark.parametrize(
    "muxer",
    [{}, {"use_editlist": "0"}, {"movflags": "frag_keyframe+empty_moov"}],
    ids=["mp4", "plain", "parts"],
)
def test_key_frames_at_random_places(tmp_path, muxer, decoder):
    """Each frame alone, so that its key frame is looked for anew."""
    rng = np.random.default_rng(7)
    keys = set(rng.choice(40, 12, replace=False).tolist())
    options = {"bf": "2", "g": "300", "x264-params": "scenecut=0"}
    pts = [7 + number for number in range(40)]
    path = render(tmp_path / "a.mp4", 40, pts=pts, muxer=muxer, keys=keys, **options)
    for number in range(40):
        request = VideoRequest(path, number / RATE, (number + 0.5) / RATE)
        decoded = decode_video(request, ClipSpec(Sampling(1), AS_THEY_ARE), decoder)
        assert frame_numbers(decoded.pixels).tolist() == decoded.frame_indices.tolist() == [[number]]


def test_variable_rate_segments_and_edit_lists(videos, tmp_path, decoder):
    pts = np.cumsum([0] + [1, 5, 2] * 10)
    path = render(tmp_path / "vfr.mkv", len(pts), pts=pts.tolist())
    decoded = decode_video(path, ClipSpec(Sampling(len(pts)), AS_THEY_ARE), decoder)
    assert np.array_equal(frame_numbers(decoded.pixels)[0], np.arange(len(pts)))
    np.testing.assert_allclose(decoded.timestamps[0], pts / RATE, atol=2e-3)

    path = edited(videos / "h264.mp4", tmp_path / "edited.mp4")
    decoded = decode_video(path, ClipSpec(Sampling(30), AS_THEY_ARE), decoder)
    assert frame_numbers(decoded.pixels).tolist() == [list(range(20, 50))]
    assert decoded.n_frames == 30

    request = VideoRequest(videos / "h264.ts", 0.4, 1.2)
    decoded = decode_video(request, ClipSpec(Sampling(5), AS_THEY_ARE), decoder)
    assert frame_numbers(decoded.pixels).tolist() == [[10, 14, 18, 22, 26]]
    with pytest.raises(DecodeError, match=r"begins after the video's end at 2\.4 s"):
        decode_video(VideoRequest(videos / "h264.mp4", 70, 80), DEFAULT, decoder)


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_rotation_flags_are_honored(tmp_path, degrees, decoder):
    _, flagged = rotated(tmp_path, degrees)
    decoded = decode_video(flagged, DEFAULT, decoder)
    assert np.array_equal(frame_numbers(decoded.pixels), decoded.frame_indices)
    assert np.array_equal(decoded.pixels, decode_video(flagged, DEFAULT, "pyav").pixels)


def test_frames_that_change_their_size_keep_their_proportions(tmp_path, decoder):
    path = turning(tmp_path / "turns.mkv")
    spec = ClipSpec(Sampling(2, position="middle"), Preprocess((64, 64), resize_mode="longest"))
    assert np.array_equal(decode_video(path, spec, decoder).pixels, decode_video(path, spec, "pyav").pixels)


def test_refuses_what_it_might_read_wrongly(videos, tmp_path, decoder):
    with pytest.raises(DecodeError, match="not used for avi, whose files do not say when a frame is shown"):
        decode_video(videos / "mpeg4.avi", DEFAULT, decoder)
    for harm in (truncated, zeroed):
        with pytest.raises(DecodeError, match=r"the file is damaged|torchcodec: "):
            decode_video(harm(videos / "long.mp4", tmp_path / "harmed.mp4"), DEFAULT, decoder)


@pytest.mark.parametrize("packet", [0, 15])
def test_refuses_frames_whose_errors_the_codec_concealed(tmp_path, packet, decoder):
    """torchcodec itself gives such frames, and says nothing: its FFmpeg's log does."""
    sound = render(tmp_path / "sound.mp4", slices="4", bf="0")
    whole = ClipSpec(Sampling(60), AS_THEY_ARE)
    assert decode_video(sound, whole, decoder).note == ""
    path = without_a_slice(sound, tmp_path / "harmed.mp4", packet)
    with pytest.raises(DecodeError, match="torchcodec: the codec concealed errors in"):
        decode_video(path, whole, decoder)


def test_takes_no_frame_for_another(videos, monkeypatch, decoder):
    """Where torchcodec is one frame off, whatever the reason, nothing is given."""
    from torchcodec.decoders import VideoDecoder

    right = VideoDecoder.get_frame_at
    monkeypatch.setattr(VideoDecoder, "get_frame_at", lambda self, index: right(self, max(1, index - 1)))
    with pytest.raises(DecodeError, match=r"gives the frame at \d\.\d+ s for the one at \d\.\d+ s"):
        decode_video(videos / "h264.mp4", DEFAULT, decoder)


def test_pool_equals_decoding_in_process(videos, tmp_path, decoder, capfd):
    paths = [videos / "h264.mp4", videos / "mpeg4.avi", tmp_path / "none.mp4", videos / "vp9.webm"]
    with DecodePool(DEFAULT, workers=1, decoder=decoder, memory_gib=1) as pool:
        results = [result for _, result in pool.decode(paths)]
        for result, path in zip(results, paths, strict=True):
            if path in (paths[1], paths[2]):
                assert isinstance(result, DecodeFailure)
                continue
            assert isinstance(result, Decoded)
            here = decode_video(path, DEFAULT, decoder)
            assert np.array_equal(result.pixels, here.pixels)
            assert result.facts() == here.facts()
            result.release()
    assert capfd.readouterr() == ("", "")


def test_the_log_level_of_others_stays(videos, monkeypatch, decoder):
    monkeypatch.setenv("TORCHCODEC_FFMPEG_LOG_LEVEL", "PANIC")
    decode_video(videos / "h264.mp4", DEFAULT, decoder)
    assert os.environ["TORCHCODEC_FFMPEG_LOG_LEVEL"] == "PANIC"


# What is missing is said before a video is opened: there is none.


@pytest.mark.parametrize("decoder", ["torchcodec", "torchcodec-cuda"])
def test_says_that_torchcodec_is_not_installed(tmp_path, monkeypatch, decoder):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    message = rf"The decoder {decoder} needs torchcodec, .*: pip install 'vidclip\[torchcodec\]', or use"
    with pytest.raises(DecoderUnavailable, match=message):
        DecodePool(DEFAULT, workers=1, decoder=decoder)
    from vidclip.pipeline.video.torchcodec_setup import prepare

    prepare.cache_clear()
    with pytest.raises(DecoderUnavailable, match=message):
        decode_video(tmp_path / "none.mp4", DEFAULT, decoder)


@pytest.mark.skipif(importlib.util.find_spec("torchcodec") is None, reason="torchcodec is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="names of libraries")
def test_says_that_ffmpeg_is_missing(tmp_path, monkeypatch):
    for major in range(56, 63):
        (tmp_path / f"libavutil.so.{major}").touch()  # no library: none that comes later is looked at
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with (
        DecodePool(DEFAULT, workers=1, decoder="torchcodec") as pool,
        pytest.raises(DecoderUnavailable, match=r"does not load the libraries of FFmpeg .*apt-get install"),
    ):
        list(pool.decode([tmp_path / "none.mp4"]))


@pytest.mark.skipif(importlib.util.find_spec("torchcodec") is None, reason="torchcodec is not installed")
@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU")
def test_says_that_there_is_no_gpu(tmp_path):
    available("torchcodec")
    with (
        DecodePool(DEFAULT, workers=1, decoder="torchcodec-cuda") as pool,
        pytest.raises(DecoderUnavailable, match="finds no GPU that it can use .* needs an NVIDIA GPU"),
    ):
        list(pool.decode([tmp_path / "none.mp4"]))


def test_extract_names_the_decoder_or_what_it_needs(tmp_path):
    """The option reaches the decoders; without torchcodec, nothing is begun."""
    save_video(tmp_path / "videos" / "a.mp4", frames=10)
    found = importlib.util.find_spec("torchcodec") is not None
    done = vidclip(
        "extract", "videos", "--model", "demo", "--workers", "1", "--decoder", "torchcodec", cwd=tmp_path
    )
    if found and done.returncode == 0:
        assert "torchcodec " in vidclip("info", cwd=tmp_path).stdout
    else:
        assert done.returncode == 2
        assert "The decoder torchcodec " in done.stderr
        assert "could not be read" not in done.stdout


def test_other_decoders_import_no_torch(videos):
    code = (
        "import sys\n"
        "from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, decode_video\n"
        "decode_video(sys.argv[1], ClipSpec(Sampling(), Preprocess((32, 32))))\n"
        "print({'torch', 'torchcodec'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, videos / "h264.mp4"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
@pytest.mark.parametrize(("private", "reserved"), [(True, "True"), (False, "False")])
def test_drivers_of_gpus_may_reserve_addresses_beyond_the_memory_limit(private, reserved):
    code = (
        "import mmap, sys\n"
        "from vidclip.pipeline.video.worker import limit_memory\n"
        f"limit_memory(0.25, private={private})\n"
        "def fits(take, *arguments, **options):\n"
        "    try:\n"
        "        take(*arguments, **options)\n"
        "    except (MemoryError, OSError):\n"
        "        return False\n"
        "    return True\n"
        "flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE\n"
        "print(fits(mmap.mmap, -1, 1 << 33, flags=flags, prot=mmap.PROT_READ), fits(bytearray, 1 << 29))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [reserved, "False"]
