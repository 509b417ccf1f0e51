"""Decoding in worker processes: videos whose frames carry their own number."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc

import numpy as np
import pytest

from numbered_videos import (
    DEFAULT,
    GOOD,
    frame_numbers,
    render,
    zeroed,
)
from vidclip.pipeline.video import (
    ClipSpec,
    Decoded,
    DecodeFailure,
    DecodePool,
    DecodeWorkerError,
    Preprocess,
    Sampling,
    decode_video,
)


@pytest.fixture
def tricks(tmp_path, monkeypatch):
    """A module whose `decode` does what the name of a file says, before it decodes."""
    (tmp_path / "decoding_tricks.py").write_text(
        textwrap.dedent("""
        import ctypes, os, pathlib
        from vidclip.pipeline.video import decode_video

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
                for descriptor in range(3, 1024):  # the replies are the pipe that can be written to
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
            return decode_video(request, clip_spec, decoder)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "decoding_tricks:decode"


def copies(videos, folder, *names):
    for name in names:
        (folder / name).write_bytes((videos / "h264.mp4").read_bytes())
    return [folder / name for name in names]


def take_numbers(result):
    """The frame numbers of a result, which is given back."""
    with result:
        assert isinstance(result, Decoded), result
        return frame_numbers(result.pixels).tolist()


def test_pool_equals_decoding_in_process(videos, tmp_path, capfd):
    harmed = zeroed(videos / "long.mp4", tmp_path / "zeroed tail, ünïcode 影片.mp4")
    paths = [*(videos / name for name in GOOD), harmed, tmp_path / "none.mp4", str(videos / "h264.mkv")]
    sampling, preprocess = Sampling(frames=4, clips=2, crops=3), Preprocess((32, 32), resize=40)
    with DecodePool(ClipSpec(sampling, preprocess), workers=2, slots=3) as pool:
        for _ in range(2):  # the same workers serve twice
            seen = []
            for index, result in pool.decode(paths):
                seen.append(index)
                with result:
                    if paths[index] == tmp_path / "none.mp4":
                        assert isinstance(result, DecodeFailure)
                        assert (result.stage, result.reason) == ("missing", "no such file")
                        continue
                    here = decode_video(paths[index], ClipSpec(sampling, preprocess))
                    assert isinstance(result, Decoded)
                    assert np.array_equal(result.pixels, here.pixels)
                    assert result.facts() == here.facts()
            assert seen == list(range(len(paths)))
    assert capfd.readouterr() == ("", "")  # what decoders print does not reach the user's terminal


def test_unordered_results_come_as_they_finish(videos):
    paths = [videos / "h264.mp4"] * 12
    with DecodePool(DEFAULT, workers=2) as pool:
        seen = []
        for index, result in pool.decode(paths, ordered=False):
            seen.append(index)
            take_numbers(result)
    assert sorted(seen) == list(range(12))


def test_hang_or_crash_fails_only_its_own_video(videos, tmp_path, tricks):
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
    with DecodePool(DEFAULT, workers=2, timeout_seconds=3, decode=tricks) as pool:
        results = {}
        for index, result in pool.decode(paths, ordered=False):
            with result:
                if isinstance(result, Decoded):
                    assert np.array_equal(frame_numbers(result.pixels), Sampling().frame_indices(60))
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


def test_any_end_of_a_worker_fails_only_its_own_video(videos, tmp_path, tricks):
    names = ["signal.mp4", "chatter.mp4", "babble.mp4", "surrogate.mp4", "a.mp4", "b.mp4"]
    paths = copies(videos, tmp_path, *names)
    with DecodePool(DEFAULT, workers=2, decode=tricks) as pool:
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


def test_keeps_only_the_end_of_a_workers_stderr(videos, tmp_path, tricks):
    paths = copies(videos, tmp_path, "chatter.mp4")
    tracemalloc.start()
    try:
        with DecodePool(DEFAULT, workers=1, decode=tricks) as pool:
            [(_, result)] = pool.decode(paths)
        assert isinstance(result, DecodeFailure)
        assert tracemalloc.get_traced_memory()[1] < 5e6  # the worker writes 30 MB
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
def test_reports_videos_over_the_memory_limit(videos, tmp_path, tricks):
    names = ["greedy always.mp4", "bad_alloc.mp4", "a.mp4"]
    paths = copies(videos, tmp_path, *names)
    with DecodePool(DEFAULT, workers=1, decode=tricks, memory_gib=0.5) as pool:
        results = [result for _, result in pool.decode(paths)]
    for result in results[:2]:
        assert result.stage == "memory"
        assert result.reason == "needs more than 0.5 GiB to decode; --worker-memory raises the limit"
    assert isinstance(results[2], Decoded)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps no such limit")
def test_large_frames_exceed_the_memory_limit(videos, tmp_path):
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


def test_takes_paths_as_slots_become_free(videos):
    taken = []

    def paths():
        for number in range(20):
            taken.append(number)
            yield videos / "h264.mp4"

    with DecodePool(DEFAULT, workers=2, slots=3) as pool:
        for yielded, (index, result) in enumerate(pool.decode(paths())):
            assert index == yielded
            assert len(taken) <= yielded + 3
            take_numbers(result)
    assert len(taken) == 20


def test_pixels_stay_until_released(tmp_path):
    paths = [render(tmp_path / f"{n}.mp4", 10 + 7 * n) for n in range(5)]
    with DecodePool(DEFAULT, workers=2, slots=5) as pool:
        held = [result for _, result in pool.decode(paths)]
        for n, result in enumerate(held):
            assert isinstance(result, Decoded)
            assert np.array_equal(frame_numbers(result.pixels), Sampling().frame_indices(10 + 7 * n))
        held[0].release()
        held[0].release()  # twice is once
        assert held[0].pixels.size == 0
    take_numbers(held[1])  # the pool is closed: what was handed out stays


def test_raises_when_all_slots_are_held(videos, monkeypatch):
    monkeypatch.setattr(
        "vidclip.pipeline.video.pool.STUCK_SECONDS", 1.0
    )  # where other tests have left threads
    with DecodePool(DEFAULT, workers=1, slots=2) as pool:
        results = pool.decode([videos / "h264.mp4"] * 3)
        held = [next(results), next(results)]
        with pytest.raises(RuntimeError, match="All 2 slots of the DecodePool are held"):
            next(results)
        assert len(held) == 2


def test_another_thread_may_release(videos):
    with DecodePool(DEFAULT, workers=1, slots=1) as pool:
        n_done = 0
        for _, result in pool.decode([videos / "h264.mp4"] * 4):
            threading.Timer(0.05, result.release).start()
            n_done += 1
    assert n_done == 4


def test_abandoned_call_leaves_nothing_behind(videos):
    with DecodePool(DEFAULT, workers=2, slots=2) as pool:
        for _ in range(3):
            results = pool.decode([videos / "h264.mp4"] * 10)
            next(results)[1].release()
            with pytest.raises(RuntimeError, match="one call of decode"):
                next(pool.decode([]))
            results.close()
        done = [take_numbers(result) for _, result in pool.decode([videos / "h264.mp4"] * 3)]
    assert len(done) == 3


def test_rejects_invalid_settings():
    for settings, message in [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": 1, "slots": 0}, "slots must be at least 1"),
        ({"workers": 1, "timeout_seconds": 0}, "timeout_seconds must be above 0"),
        ({"workers": 1, "timeout_seconds": math.inf}, "timeout_seconds must be above 0 and finite, got inf"),
        ({"workers": 1, "timeout_seconds": math.nan}, "timeout_seconds must be above 0 and finite, got nan"),
        ({"workers": 1, "memory_gib": 0}, "memory_gib must be at least 0.25 and finite, or None"),
        ({"workers": 1, "memory_gib": math.nan}, "memory_gib must be at least 0.25 and finite, or None"),
        (
            {"workers": 1, "decoder": "opencv"},
            "decoder must be one of auto, decord, pyav, torchcodec, torchcodec-cuda",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            DecodePool(DEFAULT, **settings)


def test_accepts_any_time_limit(videos):
    with DecodePool(DEFAULT, workers=1, timeout_seconds=1e300) as pool:
        assert [take_numbers(result) for _, result in pool.decode([videos / "h264.mp4"])]


def test_reports_workers_that_cannot_start(videos):
    with (
        DecodePool(DEFAULT, workers=2, decode="no_such_module:decode") as pool,
        pytest.raises(DecodeWorkerError, match=r"do not start.*No module named 'no_such_module'"),
    ):
        list(pool.decode([videos / "h264.mp4"]))


def test_closed_pool_refuses_to_decode(videos):
    pool = DecodePool(DEFAULT, workers=1)
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(pool.decode([videos / "h264.mp4"]))


def test_closes_while_a_decoder_hangs(videos, tmp_path, tricks):
    paths = copies(videos, tmp_path, "a.mp4", "hang always pid.mp4")
    note = tmp_path / "hang always pid.mp4.pid"
    clip_spec = DEFAULT
    with DecodePool(clip_spec, workers=2, timeout_seconds=3600, decode=tricks) as pool:
        results = pool.decode(paths)
        take_numbers(next(results)[1])
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
