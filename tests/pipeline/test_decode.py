"""Videos whose frames carry their own number, so that the pixels tell which frame they are."""

import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from vidclip.pipeline.decode import (
    Decoded,
    DecodeError,
    DecodeFailure,
    DecodePool,
    DecodeWorkerError,
    decode_video,
)
from vidclip.pipeline.preprocess import Preprocess
from vidclip.pipeline.sampling import Sampling

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
        decoded = decode_video(videos / name, sampling, AS_THEY_ARE, decoder)
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
        decoded = decode_video(videos / name, Sampling(), AS_THEY_ARE)
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
            decode_video(videos / name, Sampling(), AS_THEY_ARE, "decord")


@has_decord
def test_both_decoders_give_the_same_pixels(videos):
    for name in GOOD:
        one, other = (
            decode_video(videos / name, Sampling(), Preprocess((64, 64)), d) for d in ("auto", "pyav")
        )
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 2, name


def test_views_are_clip_by_clip_and_crop_by_crop(videos):
    sampling, preprocess = Sampling(frames=4, clips=4, crops=3), Preprocess((48, 48))
    whole = decode_video(videos / "h264.mp4", Sampling(frames=60), AS_THEY_ARE).pixels[0]
    decoded = decode_video(videos / "h264.mp4", sampling, preprocess)
    assert decoded.pixels.shape == (12, 4, 48, 48, 3)
    for clip in range(4):
        for t, index in enumerate(decoded.frame_indices[clip]):
            assert np.array_equal(
                decoded.pixels[3 * clip : 3 * clip + 3, t], preprocess.pixels(whole[index], 3)
            )


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_short_video_repeats_frames_and_says_so(tmp_path, decoder):
    decoded = decode_video(render(tmp_path / "a.mp4", 3), Sampling(), AS_THEY_ARE, decoder)
    assert decoded.repeated
    assert numbers(decoded.pixels).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_variable_frame_rate_keeps_the_times(tmp_path, decoder):
    pts = np.cumsum([0] + [1, 5, 2] * 10)
    path = render(tmp_path / "vfr.mkv", len(pts), pts=pts.tolist())
    decoded = decode_video(path, Sampling(frames=len(pts)), AS_THEY_ARE, decoder)
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
    upright = decode_video(render(tmp_path / "upright.mp4", 12), Sampling(), AS_THEY_ARE, decoder)
    decoded = decode_video(flagged, Sampling(), AS_THEY_ARE, decoder)
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)
    assert np.abs(decoded.pixels.astype(int) - upright.pixels).mean() < 2
    if degrees != 180:  # and the same check sees it where the flag is missing
        ignored = decode_video(stored, Sampling(), AS_THEY_ARE, decoder)
        assert not np.array_equal(numbers(ignored.pixels), ignored.frame_indices)


def test_frames_that_an_edit_list_hides_are_not_shown(videos, tmp_path):
    content = (videos / "h264.mp4").read_bytes()
    at = content.index(b"elst") + 12
    duration, media_time = struct.unpack(">II", content[at : at + 8])
    ticks = struct.unpack(">I", content[(m := content.index(b"mdhd") + 16) : m + 4])[0] // RATE
    edit = struct.pack(">II", duration * 30 // 60, media_time + 20 * ticks)
    path = patched(videos / "h264.mp4", tmp_path / "edited.mp4", b"elst", 8, edit)
    for decoder in ("auto", "pyav"):
        decoded = decode_video(path, Sampling(frames=30), AS_THEY_ARE, decoder)
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
    decoded = decode_video(path, Sampling(), AS_THEY_ARE, decoder)
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
    decoded = decode_video(path, Sampling(frames=60), AS_THEY_ARE, "pyav")
    readable = [*range(keys[1] + 1), *range(keys[2], 60)]
    assert sorted(set(decoded.frame_indices[0].tolist())) == readable
    assert decoded.readable_frames == len(readable)
    assert np.array_equal(numbers(decoded.pixels), decoded.frame_indices)


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
        decode_video(tmp_path / name, Sampling(), AS_THEY_ARE, decoder)
    assert error.value.stage == stage


def test_without_a_readable_frame_both_reasons_are_given(videos, tmp_path):
    path = zeroed(videos / "long.mp4", tmp_path / "zeros.mp4", keep=0.001)
    with pytest.raises(DecodeError, match="0 readable frames, of 60"):
        decode_video(path, Sampling(), AS_THEY_ARE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(DecodeError, match="permission denied"):
        decode_video(path, Sampling(), AS_THEY_ARE)


# ---- many videos, in worker processes


@pytest.fixture
def tricks(tmp_path, monkeypatch):
    """A module whose `decode` does what the name of a file says, before it decodes."""
    (tmp_path / "decoding_tricks.py").write_text(
        textwrap.dedent("""
        import ctypes, os, pathlib
        from vidclip.pipeline.video_readers import decode_request

        def decode(request, sampling, preprocess, decoder):
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
            return decode_request(request, sampling, preprocess, decoder)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "decoding_tricks:decode"


def copies(videos, folder, *names):
    for name in names:
        (folder / name).write_bytes((videos / "h264.mp4").read_bytes())
    return [folder / name for name in names]


def shown(result):
    """The frame numbers of a result, which is given back."""
    with result:
        assert isinstance(result, Decoded), result
        return numbers(result.pixels).tolist()


def test_a_pool_gives_what_decoding_here_gives(videos, tmp_path, capfd):
    harmed = zeroed(videos / "long.mp4", tmp_path / "zeroed tail, ünïcode 影片.mp4")
    paths = [*(videos / name for name in GOOD), harmed, tmp_path / "none.mp4", str(videos / "h264.mkv")]
    sampling, preprocess = Sampling(frames=4, clips=2, crops=3), Preprocess((32, 32), resize=40)
    with DecodePool(sampling, preprocess, workers=2, slots=3) as pool:
        for _ in range(2):  # the same workers serve twice
            seen = []
            for index, result in pool.decode(paths):
                seen.append(index)
                with result:
                    if index == 9:
                        assert isinstance(result, DecodeFailure)
                        assert (result.stage, result.reason) == ("missing", "no such file")
                        continue
                    here = decode_video(paths[index], sampling, preprocess)
                    assert isinstance(result, Decoded)
                    assert np.array_equal(result.pixels, here.pixels)
                    assert result.facts() == here.facts()
            assert seen == list(range(len(paths)))
    assert capfd.readouterr() == ("", "")  # the decoders' complaints do not reach the user's terminal


def test_results_come_as_they_are_finished_when_asked(videos):
    paths = [videos / "h264.mp4"] * 12
    with DecodePool(Sampling(), AS_THEY_ARE, workers=2) as pool:
        seen = []
        for index, result in pool.decode(paths, ordered=False):
            seen.append(index)
            shown(result)
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
    with DecodePool(Sampling(), AS_THEY_ARE, workers=2, timeout_seconds=3, decode=tricks) as pool:
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


def test_paths_are_taken_as_slots_allow(videos):
    taken = []

    def paths():
        for number in range(20):
            taken.append(number)
            yield videos / "h264.mp4"

    with DecodePool(Sampling(), AS_THEY_ARE, workers=2, slots=3) as pool:
        for yielded, (index, result) in enumerate(pool.decode(paths())):
            assert index == yielded
            assert len(taken) <= yielded + 3
            shown(result)
    assert len(taken) == 20


def test_pixels_stay_as_they_are_until_they_are_released(tmp_path):
    paths = [render(tmp_path / f"{n}.mp4", 10 + 7 * n) for n in range(5)]
    with DecodePool(Sampling(), AS_THEY_ARE, workers=2, slots=5) as pool:
        held = [result for _, result in pool.decode(paths)]
        for n, result in enumerate(held):
            assert isinstance(result, Decoded)
            assert np.array_equal(numbers(result.pixels), Sampling().frame_indices(10 + 7 * n))
        held[0].release()
        held[0].release()  # twice is once
        assert held[0].pixels.size == 0
    shown(held[1])  # the pool is closed: what was handed out stays


def test_holding_all_slots_and_asking_for_more_is_an_error_not_a_hang(videos):
    with DecodePool(Sampling(), AS_THEY_ARE, workers=1, slots=2) as pool:
        results = pool.decode([videos / "h264.mp4"] * 3)
        held = [next(results), next(results)]
        with pytest.raises(RuntimeError, match="All 2 slots of the DecodePool are held"):
            next(results)
        assert len(held) == 2


def test_another_thread_may_release(videos):
    with DecodePool(Sampling(), AS_THEY_ARE, workers=1, slots=1) as pool:
        n_done = 0
        for _, result in pool.decode([videos / "h264.mp4"] * 4):
            threading.Timer(0.05, result.release).start()
            n_done += 1
    assert n_done == 4


def test_a_call_that_is_left_in_the_middle_leaves_nothing_behind(videos):
    with DecodePool(Sampling(), AS_THEY_ARE, workers=2, slots=2) as pool:
        for _ in range(3):
            results = pool.decode([videos / "h264.mp4"] * 10)
            next(results)[1].release()
            with pytest.raises(RuntimeError, match="one call of decode"):
                next(pool.decode([]))
            results.close()
        done = [shown(result) for _, result in pool.decode([videos / "h264.mp4"] * 3)]
    assert len(done) == 3


def test_settings_that_cannot_be_are_named():
    for settings, message in [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": 1, "slots": 0}, "slots must be at least 1"),
        ({"workers": 1, "timeout_seconds": 0}, "timeout_seconds must be above 0"),
        ({"workers": 1, "decoder": "opencv"}, "decoder must be one of auto, decord, pyav"),
    ]:
        with pytest.raises(ValueError, match=message):
            DecodePool(Sampling(), AS_THEY_ARE, **settings)


def test_workers_that_cannot_start_end_the_run_with_their_last_words(videos):
    with (
        DecodePool(Sampling(), AS_THEY_ARE, workers=2, decode="no_such_module:decode") as pool,
        pytest.raises(DecodeWorkerError, match=r"do not start.*No module named 'no_such_module'"),
    ):
        list(pool.decode([videos / "h264.mp4"]))


def test_a_closed_pool_says_so(videos):
    pool = DecodePool(Sampling(), AS_THEY_ARE, workers=1)
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(pool.decode([videos / "h264.mp4"]))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an alarm ends them, later")
def test_workers_die_with_their_parent_even_while_they_hang(videos, tmp_path, tricks):
    hanging, idle = copies(videos, tmp_path, "hang always pid.mp4", "idle pid.mp4")
    script = tmp_path / "script.py"  # a user's script: no main guard, and a module beside it
    script.write_text(
        textwrap.dedent(f"""
        from vidclip.pipeline.decode import *
        from vidclip.pipeline.preprocess import Preprocess
        from vidclip.pipeline.sampling import Sampling
        pool = DecodePool(Sampling(), Preprocess((32, 32)), workers=2, timeout_seconds=600, decode={tricks!r})
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
