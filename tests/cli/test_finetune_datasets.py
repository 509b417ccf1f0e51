"""`vidclip finetune --dataset`: public data sets in miniature, laid out as they are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from helpers import Done, save_video, vidclip
from vidclip.lexicons import load_lexicon
from vidclip.pipeline import load_head

LEFT_TO_RIGHT, RIGHT_TO_LEFT = (f"Pushing something from {way}" for way in ("left to right", "right to left"))


def finetune(model: str, output: Path, *options: object) -> Done:
    small = ["--frames", 3, "--batch-size", 4, "--temporal", "mean", "--epochs", 1, "--workers", 1]
    place = ["--model", model, "--device", "cpu", "--output", output]
    return vidclip("finetune", *small, *place, *options)


def trained(output: Path) -> dict:
    return json.loads((output / "training.json").read_text())


# --- Charades


@pytest.fixture(scope="module")
def charades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training videos of two seconds with eleven intervals, and two test videos."""
    root = tmp_path_factory.mktemp("charades")
    rows = {f"TRN0{i}": "c092 0.00 1.00;c147 0.00 1.00;c098 1.00 2.00" for i in range(4)}
    rows |= {"TRN04": "c098 0.50 1.50;c092 7.00 9.00;c147 1.20 0.40", "TRN05": "c147 0.30 1.70", "TRN06": ""}
    tests = {"TST00": "c092 0.00 1.00;c098 1.00 2.00", "TST01": "c147 0.00 2.00"}
    for split, videos in (("train", rows), ("test", tests)):
        text = "".join(f"{name},{actions},2.0\n" for name, actions in videos.items())
        (root / f"Charades_v1_{split}.csv").write_text(f"id,actions,length\n{text}")
    for seed, name in enumerate([*rows, *tests]):
        save_video(root / f"Charades_v1_480/{name}.mp4", frames=20, seed=seed)
    return root


def test_charades_is_trained_on_by_intervals(charades: Path, tiny_model: str, tmp_path: Path):
    """One example for each interval and action; its head then tests whole videos, and knows which it has seen."""
    model = tmp_path / "model"
    place = ["--dataset", "charades", "--root", charades]
    done = finetune(tiny_model, model, *place, "--held-out", 0.4, "--recipe", "bike")
    assert done.returncode == 1, done.stderr
    assert "Note: 15 examples are made of 11 segments: one for each label of a segment." in done.stderr
    assert "left out because they end before they begin: TRN04 1.2 to 0.4" in done.stderr
    assert "154 of 157 classes have no training video" in done.stderr
    assert "1 of 15 videos could not be read, and were left out:" in done.stdout
    assert (
        "Charades_v1_480/TRN04.mp4#t=7,9: the segment 7.0 to 9.0 s begins after the video's end"
        in done.stdout
    )
    told = trained(model)
    sides = [{name.partition("#")[0] for name in told[side]} for side in ("trained_on", "held_out")]
    assert not sides[0] & sides[1], "all intervals of a video are on one side"
    assert len(sides[0] | sides[1]) == 6
    assert len(told["trained_on"]) + len(told["held_out"]) == 10, "an interval of two actions is named once"
    assert load_head(model / "head.safetensors").classes == load_lexicon("charades").labels

    cache = ["--cache", tmp_path / "features"]
    encoder = ["--model", f"local-dir:{model}"]
    done = vidclip("extract", *place, *encoder, *cache, "--frames", 3, "--workers", 1, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    head = ["--head", model / "head.safetensors", "--lexicon", "charades", "--json", "-"]
    for split, count, note in (("test", 2, ""), ("train", 7, "was trained on 6 of the 7 tested videos")):
        done = vidclip("eval", "--protocol", "multi-label", *encoder, *cache, *head, "--split", split)
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout)[0]["results"]
        assert [each["n_videos"] for each in results] == [count, count]
        assert any(note in told for told in results[0]["notes"])


def test_whole_videos_of_charades_have_too_many_labels(charades: Path, tiny_model: str, tmp_path: Path):
    place = ["--dataset", "charades", "--root", charades, "--no-segments", "--train-split", "all"]
    done = finetune(tiny_model, tmp_path / "o", *place, "--held-out", 0)
    assert done.returncode == 2
    assert "all of one class" in done.stderr  # TRN05 and TST01
    assert not (tmp_path / "o").exists()


# --- Something-Something


def something(root: Path, classes: list[str], *, mirrored: bool) -> Path:
    """Eight folders of frames, of these classes in turn; or what a mirror shows of them."""
    labels = load_lexicon("something-something-v1").labels
    root.mkdir()
    (root / "something-something-v1-labels.csv").write_text("".join(f"{label}\n" for label in labels))
    rows = [f"{number};{classes[number % len(classes)]}\n" for number in range(8)]
    (root / "something-something-v1-train.csv").write_text("".join(rows))
    (root / "something-something-v1-validation.csv").write_text("100;Holding something\n")
    for number in range(8):
        folder = root / f"20bn-something-something-v1/{number}"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 32, 32, 3), np.uint8)
        for t, picture in enumerate(pixels[:, :, ::-1] if mirrored else pixels):
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{t + 1:05}.png")
    return root


def test_a_mirror_exchanges_left_and_right_of_something_something(tiny_model: str, tmp_path: Path):
    """Training on mirrored clips is training on mirrored videos of the exchanged classes."""
    other = {
        LEFT_TO_RIGHT: RIGHT_TO_LEFT,
        RIGHT_TO_LEFT: LEFT_TO_RIGHT,
        "Holding something": "Holding something",
    }
    classes = [LEFT_TO_RIGHT, RIGHT_TO_LEFT, "Holding something"]
    exchanged = [other[label] for label in classes]
    found = []
    for name, labels, mirrored in (
        ("flipped", classes, False), ("mirrored", exchanged, True), ("not exchanged", classes, True),
    ):  # fmt: skip
        root = something(tmp_path / f"{name} videos", labels, mirrored=mirrored)
        place = ["--dataset", "ssv1", "--root", root, "--held-out", 0, "--no-crop", "--rand-augment", "0,0"]
        done = finetune(tiny_model, tmp_path / name, *place, "--flip", 0 if mirrored else 1)
        assert done.returncode == 0, done.stderr
        assert "1 of 9 listed videos missing, and left out:\n  100  (" in done.stdout
        assert "8 videos of 174 classes; 2 steps" in done.stdout
        found.append(load_file(tmp_path / name / "open_clip_model.safetensors"))
    flipped, mirrored, kept = found
    assert [name for name in flipped if not torch.equal(flipped[name], mirrored[name])] == []
    assert any(not torch.equal(flipped[name], kept[name]) for name in flipped)


# --- others, and what is wrong


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of each of two classes, three of them for training in split 1, and two in split 2."""
    root = tmp_path_factory.mktemp("ucf101")
    lexicon = load_lexicon("ucf101")
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text(
        "".join(f"{i} {label}\n" for i, label in enumerate(lexicon.labels, 1))
    )
    for split, count in ((1, 3), (2, 2), (3, 2)):
        sides = {"train": "", "test": ""}
        for label in ("Archery", "YoYo"):
            for group in range(4):
                side = "train" if group < count else "test"
                number = f" {1 + lexicon.index(label)}" if side == "train" else ""
                sides[side] += f"{label}/v_{label}_g0{group}_c01.avi{number}\n"
        for side, text in sides.items():
            (lists / f"{side}list0{split}.txt").write_text(text)
    for c, label in enumerate(("Archery", "YoYo")):
        for group in range(4):
            save_video(root / f"{label}/v_{label}_g0{group}_c01.avi", frames=6, seed=10 * c + group)
    return root


@pytest.mark.parametrize(("options", "count"), [(["--split", 1], 6), (["--train-split", "train2"], 4)])
def test_numbered_splits(ucf101: Path, tiny_model: str, tmp_path: Path, options: list, count: int):
    place = ["--dataset", "UCF-101", "--root", ucf101, "--held-out", 0]
    done = finetune(tiny_model, tmp_path / "o", *place, *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"{count} videos of 101 classes; 1 step" in done.stdout


def test_lists_of_the_papers_repositories(ucf101: Path, tiny_model: str, tmp_path: Path):
    rows = [
        f"{label}/v_{label}_g0{group}_c01.avi 6 {number}"
        for label, number in (("Archery", 2), ("YoYo", 100))
        for group in range(3)
    ]
    (tmp_path / "train.txt").write_text("\n".join(rows))
    place = [tmp_path / "train.txt", "--root", ucf101, "--lexicon", "ucf101", "--held-out", 0]
    done = finetune(tiny_model, tmp_path / "o", *place, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "6 videos of 101 classes; 1 step" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no videos were named. Say where they are: `vidclip finetune videos/`"),
        (["videos", "--dataset", "ucf101"], "SOURCE and --dataset ucf101 both say which videos to read"),
        (["--dataset", "ucf101"], "--dataset ucf101 needs --root"),
        (["videos", "--split", 1], "--split goes with --dataset alone"),
        (["videos", "--annotations", "a"], "--annotations goes with --dataset alone"),
        (["videos", "--no-segments"], "--segments goes with --dataset alone"),
        (["--dataset", "ucf101", "--root", "{ucf101}"], "the list has the splits test1, test2, test3, train1"),
        (["--dataset", "ucf101", "--root", "{ucf101}", "--split", 1, "--lexicon", "hmdb51"], "lexicon hmdb51 does not have: 'Archery' ("),
        (["{ucf101}/Archery"], "none of the 4 videos that would be trained on has one label"),
        (["{one}"], "the training videos are all of one class"),
        (["{broken}", "--held-out", 0.5], "none of the 2 held-out videos can be read; "),
    ],
)  # fmt: skip
def test_wrong_requests(ucf101: Path, tiny_model: str, tmp_path: Path, arguments: list, message: str):
    """Before the first step, and without an output."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "rowing").symlink_to(ucf101 / "Archery")
    for label in ("Archery", "YoYo"):
        for number in range(2):
            save_video(tmp_path / f"broken/{label}/{number}.mp4", frames=6, seed=number)
    if "{broken}" in arguments:  # those that are held out
        model = tmp_path / "whole"
        whole = finetune(tiny_model, model, tmp_path / "broken", "--held-out", 0.5)
        assert whole.returncode == 0, whole.stderr
        for name in trained(model)["held_out"]:
            (tmp_path / "broken" / name).write_bytes(b"no video")
    places = {"ucf101": ucf101, "one": tmp_path / "one", "broken": tmp_path / "broken"}
    filled = [argument.format(**places) if isinstance(argument, str) else argument for argument in arguments]
    done = finetune(tiny_model, tmp_path / "o", *filled)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "o").exists()
