"""The world as files: MP4, lists, resuming."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

import vidclip.demo
from vidclip.demo.actions import ACTIONS, action_named
from vidclip.demo.captions import PHRASES
from vidclip.demo.render import render_video
from vidclip.demo.videos import (
    CSV_HEADER,
    OFFICIAL_COUNTS,
    Clip,
    first_clips,
    list_clips,
    write_list,
    write_video,
    write_world,
)
from vidclip.demo.world import FRAMES_PER_SECOND
from vidclip.lexicons import load_lexicon

DEMO = Path(vidclip.demo.__file__).parent


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, codec, pixels = stream.average_rate, stream.codec_context.name, stream.codec_context.pix_fmt
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    return frames, rate, codec, pixels


def test_a_file_holds_the_rendered_frames(tmp_path):
    frames = render_video(action_named("waving a flag"), 1, "idle")
    write_video(tmp_path / "a" / "clip.mp4", frames)
    read, rate, codec, pixels = decoded(tmp_path / "a" / "clip.mp4")
    assert read.shape == frames.shape
    assert (float(rate), codec, pixels) == (FRAMES_PER_SECOND, "h264", "yuv420p")
    near = np.abs(read.astype(int) - frames)
    far = np.abs(read.astype(int) - frames[::-1])
    assert near.mean() < 5  # compression, and color at half resolution
    assert far.mean() > 1.5 * near.mean()  # the check does notice other frames
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["clip.mp4"]


class BreaksMidway:
    """Frames that cannot be made to the end."""

    shape = (3, 128, 128, 3)

    def __iter__(self):
        yield from np.zeros((2, 128, 128, 3), np.uint8)
        raise RuntimeError("no third frame")


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="no third frame"):
        write_video(tmp_path / "clip.mp4", BreaksMidway())
    assert list(tmp_path.iterdir()) == []


def test_a_world_is_written_once(tmp_path):
    counts = {"trimmed": {"test": 1}, "idle": {"validation": 1}}
    clips = [c for c in list_clips(counts) if c.label in ("kicking a ball", "carrying a drum")]
    assert list(write_world(tmp_path, clips, workers=1))[-1] == (4, 4)
    times = {clip.path: (tmp_path / clip.path).stat().st_mtime_ns for clip in clips}
    (tmp_path / clips[0].path).unlink()
    assert next(iter(write_world(tmp_path, clips, workers=1))) == (3, 4)
    list(write_world(tmp_path, clips, workers=1))
    again = {clip.path: (tmp_path / clip.path).stat().st_mtime_ns for clip in clips}
    assert again.pop(clips[0].path) != times.pop(clips[0].path)
    assert again == times
    with (tmp_path / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["label"], r["split"], r["kind"], r["group"]) for r in rows} == {
        ("kicking a ball", "test", "trimmed", "seen"),
        ("carrying a drum", "test", "trimmed", "unseen"),
        ("kicking a ball", "validation-idle", "idle", "seen"),
        ("carrying a drum", "validation-idle", "idle", "unseen"),
    }
    assert all((tmp_path / r["path"]).exists() for r in rows)


def test_processes_write_the_same_files(tmp_path):
    clips = first_clips(20)
    list(write_world(tmp_path / "one", clips, workers=1))
    list(write_world(tmp_path / "two", clips, workers=2))
    for clip in clips[::5]:
        assert (tmp_path / "one" / clip.path).read_bytes() == (tmp_path / "two" / clip.path).read_bytes()


def test_a_larger_world_contains_every_smaller_one():
    assert set(first_clips(10)) < set(first_clips(200))
    assert len({c.path for c in first_clips(500)}) == 500
    small = list_clips({"trimmed": {"test": 2}})
    assert set(small) < set(list_clips({"trimmed": {"test": 3}}))


def test_unknown_kinds_and_splits_are_refused():
    with pytest.raises(ValueError, match='no kind of video "slow"'):
        list_clips({"slow": {"test": 1}})
    with pytest.raises(ValueError, match='no split "dev"'):
        list_clips({"trimmed": {"dev": 1}})


def test_the_packaged_lists_belong_to_the_code(tmp_path):
    assert list(load_lexicon("demo-classes").phrases) == [a.name for a in ACTIONS]
    assert list(load_lexicon("demo").phrases) == list(PHRASES)
    write_list(tmp_path / "videos.csv", list_clips(OFFICIAL_COUNTS))
    assert (DEMO / "videos.csv").read_bytes() == (tmp_path / "videos.csv").read_bytes()
    with (DEMO / "videos.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == CSV_HEADER
    paths = [row[0] for row in rows[1:]]
    assert len(set(paths)) == len(paths)
    assert sum(row[2] == "test" and row[3] == "trimmed" for row in rows) >= 700


def test_a_clip_knows_its_group():
    assert Clip("kicking a ball", 0).group == "seen"
    assert Clip("carrying a box", 0).group == "unseen"
    assert Clip("opening a door", 0, "order").group == "order"
