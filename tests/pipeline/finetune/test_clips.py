"""Which videos are trained on, and in which order, draws and colors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from numbered_videos import render
from vidclip.lexicons import lexicon_of_labels, load_lexicon
from vidclip.pipeline.datasets import DatasetError, Video, VideoList
from vidclip.pipeline.finetune import (
    ColorAugmentation,
    World,
    epoch_order,
    find_recipe,
    mirrored_classes,
    training_videos,
)
from vidclip.pipeline.heads import FitError


def listed(counts: dict[str, int], **splits: str) -> VideoList:
    return VideoList(
        Video(f"{label}/{i}", Path(f"/{label}/{i}"), (label,), splits.get(label, ""))
        for label, count in counts.items()
        for i in range(count)
    )


def test_held_out_videos_are_a_share_of_each_class():
    chosen = training_videos(listed({"a": 10, "b": 20}), held_out=0.1)
    assert np.bincount(chosen.held_out_labels).tolist() == [1, 2]
    assert np.bincount(chosen.train_labels).tolist() == [9, 18]
    ids = {video.id for video in chosen.train}
    assert not ids & {video.id for video in chosen.held_out}
    assert [chosen.lexicon.labels[label] for label in chosen.train_labels] == [
        v.labels[0] for v in chosen.train
    ]


def test_small_classes_hold_nothing_out():
    chosen = training_videos(listed({"a": 3, "b": 10}), held_out=0.1)
    assert np.bincount(chosen.held_out_labels).tolist() == [0, 1]
    few = training_videos(listed({"a": 3, "b": 4}), held_out=0.1)
    assert len(few.held_out) == 0
    assert few.notes == ["no class has videos enough to hold one out: the last epoch will be kept."]


def test_segments_of_a_file_are_held_out_together():
    videos = [
        Video(f"{label}{file}#{part}", Path(f"/{label}{file}"), (label,), "", "", part, part + 1)
        for label in "ab"
        for file in range(4)
        for part in range(3)
    ]
    chosen = training_videos(VideoList(videos), held_out=0.25)
    assert len(chosen.held_out) == 6
    assert not {video.path for video in chosen.held_out} & {video.path for video in chosen.train}


def test_shots_are_drawn_by_seed_and_repeated():
    videos = listed({"a": 10, "b": 23})
    chosen = training_videos(videos, shots=2, held_out=0, seed=1)
    assert np.bincount(chosen.train_labels).tolist() == [2, 2]
    assert chosen.copies == 33 // 4  # an epoch has as many clips as the full set, rounded down
    assert chosen.digest == training_videos(videos, shots=2, held_out=0, seed=1).digest
    assert chosen.digest != training_videos(videos, shots=2, held_out=0, seed=2).digest
    assert training_videos(videos, held_out=0).copies == 1


def test_the_split_train_is_trained_on():
    videos = listed({"a": 3, "b": 3, "c": 2}, a="train", b="train", c="test")
    assert {video.labels[0] for video in training_videos(videos, held_out=0).train} == {"a", "b"}
    assert len(training_videos(videos, split="all", held_out=0).train) == 8
    with pytest.raises(DatasetError, match="the list has the splits test, train, not 'val'"):
        training_videos(videos, split="val")


def test_videos_that_have_not_one_label_are_left_out():
    videos = [*listed({"a": 3, "b": 3}), Video("n", Path("/n")), Video("two", Path("/two"), ("a", "b"))]
    chosen = training_videos(VideoList(videos), held_out=0)
    assert len(chosen.train) == 6
    assert chosen.notes == ["not trained on: 1 videos without a label, 1 with several labels."]
    with pytest.raises(DatasetError, match="none of the 1 videos that would be trained on has one label"):
        training_videos(VideoList([Video("n", Path("/n"))]))


def intervals(actions: dict[str, str]) -> VideoList:
    """Files, each with its actions: "ab 0-3 a 2-5" are the labels a and b from 0 to 3 seconds, and a from 2 to 5."""
    videos = []
    for name, text in actions.items():
        words = text.split()
        for labels, times in zip(words[::2], words[1::2], strict=True):
            start, end = map(float, times.split("-"))
            videos.append(Video(f"{name}#t={times}", Path(f"/{name}"), tuple(labels), "", "", start, end))
    return VideoList(videos)


def test_a_segment_is_an_example_of_each_of_its_labels():
    chosen = training_videos(intervals({"x": "ab 0-3 a 2-5", "y": "b 0-1"}), held_out=0)
    told = [
        (video.id, video.labels, chosen.lexicon.labels[c])
        for video, c in zip(chosen.train, chosen.train_labels, strict=True)
    ]
    assert told == [
        ("x#t=0-3", ("a",), "a"), ("x#t=0-3", ("b",), "b"), ("x#t=2-5", ("a",), "a"), ("y#t=0-1", ("b",), "b"),
    ]  # fmt: skip
    assert chosen.notes == ["4 examples are made of 3 segments: one for each label of a segment."]
    whole = Video("z", Path("/z"), ("a", "b"))
    with_whole = training_videos(VideoList([*intervals({"x": "ab 0-3"}), whole]), held_out=0)
    assert [video.id for video in with_whole.train] == ["x#t=0-3", "x#t=0-3"]
    assert with_whole.notes[0] == "not trained on: 0 videos without a label, 1 with several labels."


def test_all_actions_of_a_video_are_on_one_side(rng: np.random.Generator):
    """Sixty files of five intervals, of one to three of six classes each."""
    actions = {
        f"v{file}": " ".join(
            f"{''.join(rng.choice(list('abcdef'), rng.integers(1, 4), replace=False))} {start}-{start + 2}"
            for start in range(5)
        )
        for file in range(60)
    }
    chosen = training_videos(intervals(actions), held_out=0.2)
    files = [{video.path for video in side} for side in (chosen.train, chosen.held_out)]
    assert not files[0] & files[1]
    assert len(files[0] | files[1]) == 60
    assert 8 <= len(files[1]) <= 16
    assert len(chosen.held_out) == sum(
        len(word) for file in files[1] for word in actions[file.name].split()[::2]
    )


def test_frames_are_drawn_inside_the_interval(begin: Callable, tmp_path: Path):
    """Of videos that are dark for a second and light for another, where a third action is all the time."""
    rows = ["path,labels,start,end"]
    for name in ("x", "y"):
        render(
            tmp_path / f"{name}.mp4",
            50,
            draw=lambda t: np.full((48, 48, 3), 220 if t >= 25 else 30, np.uint8),
        )
        rows += [f"{name}.mp4,dark;calm,0,1", f"{name}.mp4,light;calm,1,2"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    training = begin(tmp_path / "out", source=tmp_path / "list.csv", batch_size=8, held_out=0.0)
    (clips,) = training.loop.own_clips(1)
    batch, _, _ = training.read_one_batch()
    found = set()
    for clip, pixels in zip(clips, batch.pixels.numpy(), strict=True):
        shown = {"dark" if mean < 60 else "light" if mean > 190 else "?" for mean in pixels.mean((1, 2, 3))}
        found.add((training.loop.video(clip).labels, training.loop.video(clip).start_seconds, *sorted(shown)))
    assert found == {
        (("dark",), 0.0, "dark"), (("light",), 1.0, "light"), (("calm",), 0.0, "dark"), (("calm",), 1.0, "light"),
    }  # fmt: skip


def test_rejects_lists_that_nothing_can_be_learned_from():
    with pytest.raises(FitError, match="all of one class"):
        training_videos(listed({"a": 3}))
    with pytest.raises(DatasetError, match=r"does not have: 'b' \(b/0 and 2 more"):
        training_videos(listed({"a": 3, "b": 3}), lexicon_of_labels(["a", "c"]))
    with pytest.raises(FitError, match="3 training videos, 4 are asked for"):
        training_videos(listed({"a": 3, "b": 5}), shots=4)


def test_an_epoch_has_every_clip_once_in_whole_batches():
    order = epoch_order(10, 3, 8, seed=0, epoch=1)
    assert [len(step) for step in order] == [8, 8, 8]  # 6 of 30 are left out
    clips = np.concatenate(order)
    assert len(np.unique(clips)) == 24
    assert clips.max() < 30
    for copy in (0, 1):  # every video once before one comes again
        assert sorted(clips[10 * copy : 10 * copy + 10].tolist()) == [*range(10 * copy, 10 * copy + 10)]
    assert not np.array_equal(clips, np.concatenate(epoch_order(10, 3, 8, seed=0, epoch=2)))
    assert np.array_equal(clips, np.concatenate(epoch_order(10, 3, 8, seed=0, epoch=1)))
    only = epoch_order(5, 1, 8, seed=0, epoch=1)
    assert sorted(only[0].tolist()) == [0, 1, 2, 3, 4]


def test_processes_share_the_clips_of_one(begin: Callable, tmp_path: Path):
    alone = begin(tmp_path, accumulate=2).loop
    pair = [begin(tmp_path, accumulate=2, world=World(rank, 2)).loop for rank in range(2)]
    for epoch in (1, 2):
        shared = [sorted(a + b) for a, b in zip(*(loop.own_clips(epoch) for loop in pair), strict=True)]
        assert shared == [sorted(part) for part in alone.own_clips(epoch)]
        assert pair[1].request(4, epoch) == alone.request(4, epoch)
    assert alone.request(4, 1).draw != alone.request(4, 2).draw


def test_copies_of_a_video_have_draws_of_their_own(begin: Callable, tmp_path: Path):
    loop = begin(tmp_path).loop
    count = len(loop.videos.train)
    object.__setattr__(loop.videos, "copies", 3)
    draws = {loop.draw(copy * count + 1, epoch) for copy in range(3) for epoch in (1, 2)}
    assert len(draws) == 6
    assert {video for _, _, video in draws} == {1}


# --- left and right


def test_classes_that_a_mirror_exchanges():
    lexicon = load_lexicon("something-something-v1")
    mirror = mirrored_classes(lexicon)
    pairs = [{lexicon.labels[c], lexicon.labels[other]} for c, other in enumerate(mirror) if c < other]
    assert pairs == [  # those of the released BIKE, which numbers the classes of another version
        {f"Turning the camera {side} while filming something" for side in ("left", "right")},
        {f"Pushing something from {way}" for way in ("left to right", "right to left")},
        {f"Pulling something from {way}" for way in ("left to right", "right to left")},
    ]
    assert np.array_equal(mirror[mirror], np.arange(174))
    assert np.array_equal(mirrored_classes(load_lexicon("kinetics400")), np.arange(400))


def test_flipped_clips_have_the_label_of_the_mirror(begin: Callable, tmp_path: Path):
    left_right = lexicon_of_labels(["going left", "going right", "standing"])
    loop = begin(tmp_path, temporal="mean", lexicon=left_right).loop
    clips = list(range(len(loop.videos.train)))
    flips = [loop.recipe.augmentation.flips(loop.draw(clip, 1)) for clip in clips]
    assert {*flips} == {True, False}
    other = {0: 1, 1: 0, 2: 2}
    expected = [
        other[int(c)] if flip else int(c) for c, flip in zip(loop.videos.train_labels, flips, strict=True)
    ]
    assert loop.labels(clips, 1).tolist() == expected


# --- colors


@pytest.fixture
def clips(rng: np.random.Generator) -> torch.Tensor:
    """Three clips of four equal frames."""
    stills = torch.from_numpy(rng.integers(0, 256, (3, 1, 16, 20, 3), dtype=np.uint8))
    return stills.expand(3, 4, 16, 20, 3).contiguous()


DRAWS = [(0, 0, 0), (0, 0, 1), (0, 0, 2)]


@pytest.mark.parametrize("changes", [{"rand_augment": (2, 9)}, {"jitter": (0.4, 0.4, 0.2, 0.1)}])
def test_frames_of_a_clip_share_their_colors(clips: torch.Tensor, changes: dict):
    transform = ColorAugmentation(find_recipe("bike", gray=0.5, **changes))
    changed = transform(clips, DRAWS)
    assert changed.shape == clips.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, clips)
    for clip in changed:
        assert all(torch.equal(frame, clip[0]) for frame in clip)
    torch.testing.assert_close(transform(clips[1:2], DRAWS[1:2]), changed[1:2], rtol=0, atol=0)
    others = transform(clips, [(0, 1, video) for video in range(3)])
    assert not torch.equal(changed, others)


def test_gray_clips_are_torchvision_s(clips: torch.Tensor):
    always = ColorAugmentation(find_recipe("bike", gray=1.0))(clips, DRAWS)
    expected = functional.rgb_to_grayscale(clips.permute(0, 1, 4, 2, 3), 3).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(always, expected, rtol=0, atol=0)
    assert torch.equal(ColorAugmentation(find_recipe("bike", gray=0.0))(clips, DRAWS), clips)
    share = ColorAugmentation(find_recipe("bike", gray=0.2))
    many = clips[:1, :1].expand(500, 1, 16, 20, 3)
    gray = (share(many, [(1, 0, video) for video in range(500)]) != many).flatten(1).any(dim=1)
    assert 70 < int(gray.sum()) < 130  # 100 +- 3.4 standard deviations


def test_erased_boxes_have_the_mean_color_in_all_frames(clips: torch.Tensor):
    mean = (0.48, 0.2, 0.9)
    erase = ColorAugmentation(find_recipe("bike", gray=0.0, random_erasing=1.0), mean)
    changed = erase(clips, DRAWS)
    boxes = []
    for before, after in zip(clips, changed, strict=True):
        erased = (after != before).any(dim=-1)  # [T, H, W]
        assert torch.equal(erased, erased[:1].expand_as(erased))
        rows, columns = torch.nonzero(erased[0], as_tuple=True)
        box = after[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert torch.equal(box, torch.tensor([122, 51, 230], dtype=torch.uint8).expand_as(box))
        boxes.append((int(rows.min()), int(columns.min()), *box.shape[1:3]))
    assert len(set(boxes)) == 3
    share = ColorAugmentation(find_recipe("bike", gray=0.0, random_erasing=0.2), mean)
    many = clips[:1, :1].expand(500, 1, 16, 20, 3)
    erased = (share(many, [(1, 0, video) for video in range(500)]) != many).flatten(1).any(dim=1)
    assert 70 < int(erased.sum()) < 130  # 100 +- 3.4 standard deviations


def test_draws_of_colors_leave_the_generator_alone(clips: torch.Tensor):
    before = torch.get_rng_state()
    ColorAugmentation(find_recipe("text4vis"))(clips, DRAWS)
    assert torch.equal(torch.get_rng_state(), before)
