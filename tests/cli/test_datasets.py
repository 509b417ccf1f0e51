"""Public data sets in miniature, laid out as they are published: extracted, evaluated, and what is missing told."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.lexicons import load_lexicon


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def save_frames(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 40, 60, 3), np.uint8)
    for number, picture in enumerate(pixels, start=1):
        Image.fromarray(picture).save(folder / f"{number:05}.jpg")


@pytest.fixture
def extract(tmp_path, tiny_model):
    """Extracts into `tmp_path / "features"`; gives what the program said. The model is named once for all commands."""
    (tmp_path / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')

    def extract(*arguments: object, cache: str = "features"):
        settings = ("--device", "cpu", "--workers", 1, "--frames", 3)
        return vidclip("extract", *arguments, *settings, "--cache", cache, cwd=tmp_path)

    return extract


@pytest.fixture
def evaluate(tmp_path):
    """Evaluates it; gives what the program said, and its documents."""

    def evaluate(*arguments: object, cache: str = "features"):
        done = vidclip(
            "eval", "--cache", cache, "--device", "cpu", "--json", "r.json", *arguments, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done, json.loads((tmp_path / "r.json").read_text())

    return evaluate


def missing(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "missing.jsonl").read_text().splitlines()]


# --- the data sets


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory) -> Path:
    """Two classes of three videos, each a test video in one of the three splits; one video is missing."""
    root = tmp_path_factory.mktemp("ucf101")
    lexicon = load_lexicon("ucf101")
    put(
        root,
        "ucfTrainTestlist/classInd.txt",
        "".join(f"{i} {label}\r\n" for i, label in enumerate(lexicon.labels, 1)),
    )
    for split in (1, 2, 3):
        lists = {"train": "", "test": ""}
        for label in ("Archery", "YoYo"):
            for group in (1, 2, 3):
                part = "test" if group == split else "train"
                number = "" if part == "test" else f" {1 + lexicon.index(label)}"
                lists[part] += f"{label}/v_{label}_g0{group}_c01.avi{number}\n"
        for part, text in lists.items():
            put(root, f"ucfTrainTestlist/{part}list0{split}.txt", text)
    for label in ("Archery", "YoYo"):
        for group in (1, 2, 3):
            if (label, group) != ("YoYo", 3):
                save_video(
                    root / f"UCF-101/{label}/v_{label}_g0{group}_c01.avi", frames=6, seed=group + len(label)
                )
    return root


def test_ucf101(ucf101, extract, evaluate, tmp_path):
    done = extract("--dataset", "UCF-101", "--root", ucf101)
    assert done.returncode == 0, "missing videos are no failure"
    assert done.stdout.startswith("1 of 6 listed videos missing, and left out:\n  YoYo/v_YoYo_g03_c01.avi  (")
    assert "5 videos encoded" in done.stdout
    assert "Missing: 1 video, listed in features/missing.jsonl." in done.stdout
    (lost,) = missing(tmp_path / "features")
    assert (lost["id"], lost["labels"], lost["split"]) == (
        "YoYo/v_YoYo_g03_c01.avi",
        ["YoYo"],
        "train1 train2 test3",
    )
    assert re.search(r"\.txt, row \d$", lost["listed_in"])
    cache = FeatureCache(tmp_path / "features")
    assert sorted({load_lexicon("ucf101").index(label) for (label,) in cache.labels}) == [2, 100]

    done, (splits, full) = evaluate(
        *("--lexicon", "ucf", "--protocol", "splits", "--protocol", "full-classes", "--split", "all"),
        *("--compare", "x-clip", "--compare", "bike"),
    )
    tested = [run["n_videos"] for run in splits["results"][0]["repetitions"]]
    assert tested == [2, 2, 1]
    assert full["results"][0]["n_videos"] == 5, "--split all"
    assert "1 of the listed videos that were missing at the last extraction" in done.stderr
    beside = [(figure["paper"], figure["method"], figure["value"]) for figure in splits["published"]]
    assert beside == [("x-clip", "X-CLIP-B/16", 72.0), ("x-clip", "X-Florence", 73.2)]
    assert re.search(r"X-CLIP-B/16 +3 +fine-tuned +ViT-B/16 +32 +1x1 +0 +top-1 +72\.0 ± 2\.3", done.stdout)
    assert "bike prints no figure for ucf101 under splits, or none that could be read. It has" in done.stdout
    assert [figure["value"] for figure in full["published"] if figure["paper"] == "bike"] == [80.8]
    assert "Ni et al. 2022, X-CLIP, Table 3" in done.stdout

    unsure = vidclip("eval", "--cache", "features", cwd=tmp_path)
    assert unsure.returncode == 2
    assert "say which to test with --split; --split all tests every labeled video" in unsure.stderr
    done, (one,) = evaluate("--split", "test3")
    assert one["results"][0]["n_videos"] == 1


def test_one_split_of_ucf101_and_only_what_is_there(ucf101, extract, evaluate, tmp_path):
    done = extract(
        "--dataset", "ucf101", "--root", ucf101, "--split", 1, "--annotations", ucf101 / "ucfTrainTestlist"
    )
    assert done.returncode == 0, done.stderr
    assert FeatureCache(tmp_path / "features").splits == ["test", "train", "train", "test", "train"]
    done, (document,) = evaluate(
        *(
            "--protocol",
            "few-shot",
            "--shots",
            0,
            "--shots",
            1,
            "--seeds",
            1,
            "--epochs",
            1,
            "--split",
            "test",
        )
    )
    assert [result["settings"]["shots"] for result in document["results"]] == [0, 1]
    assert document["results"][0]["n_videos"] == 2


def test_each_list_answers_for_what_it_misses(ucf101, extract, tmp_path):
    ucf101 = shutil.copytree(ucf101, tmp_path / "lists of its own")
    assert extract("--dataset", "ucf101", "--root", ucf101).returncode == 0
    assert "missing    1 listed; see missing.jsonl" in vidclip("info", "features", cwd=tmp_path).stdout
    assert extract(ucf101 / "UCF-101").returncode == 0
    assert len(missing(tmp_path / "features")) == 1, "another list says nothing of it"
    assert extract("--dataset", "ucf101", "--root", ucf101, "--split", 3).returncode == 0
    assert len(missing(tmp_path / "features")) == 1, (
        "each split is a list of its own, and an id is missing once"
    )
    for name in ("trainlist01.txt", "trainlist02.txt", "testlist03.txt"):
        path = ucf101 / "ucfTrainTestlist" / name
        path.write_text("".join(row for row in path.open() if "YoYo_g03" not in row))
    assert extract("--dataset", "ucf101", "--root", ucf101, "--split", 3).returncode == 0
    assert extract("--dataset", "ucf101", "--root", ucf101).returncode == 0
    assert not (tmp_path / "features" / "missing.jsonl").exists(), "the list does not name it any more"
    assert "missing" not in vidclip("info", "features", cwd=tmp_path).stdout


def test_hmdb51(extract, evaluate, tmp_path):
    root = tmp_path / "hmdb"
    for label in ("brush_hair", "wave"):
        for split in (1, 2, 3):
            places = "".join(f"{label}_{i}.avi {2 if i == split else 1}\n" for i in (1, 2, 3))
            put(
                root,
                f"testTrainMulti_7030_splits/{label}_test_split{split}.txt",
                places + f"{label}_gone.avi 0\n",
            )
        for i in (1, 2, 3):
            save_video(root / f"hmdb51_org/{label}/{label}_{i}.avi", frames=6, seed=i + len(label))
    done = extract("--dataset", "hmdb51", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "2 of 8 listed videos missing" in done.stdout
    done, (document,) = evaluate(
        *(
            "--protocol",
            "splits",
            "--lexicon",
            "hmdb51",
            "--pool",
            "mean",
            "--pool",
            "vcs",
            "--compare",
            "x-clip",
        )
    )
    assert [run["n_videos"] for run in document["results"][1]["repetitions"]] == [2, 2, 2]
    assert "X-CLIP-B/16" in done.stdout
    assert "of the listed videos that were missing" not in done.stderr, (
        "the missing ones are in no test split"
    )
    done, (document,) = evaluate(
        *("--protocol", "few-shot", "--shots", 2, "--seeds", 1, "--epochs", 1),
        *("--train-split", "train1", "--split", "test1"),
    )
    assert document["results"][0]["settings"]["n_train"] == 4


def test_charades(extract, evaluate, tmp_path):
    root = tmp_path / "charades"
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    rows = {
        "AAAAA": "c092 11.90 21.20;c147 0.00 12.60",
        "BBBBB": "c098 8.60 14.20;c098 9.00 18.00",
        "CCCCC": "c092 0.00 5.00",
        "DDDDD": "",
        "GONE1": "c000 0.00 5.00",
    }
    lines = "".join(
        f'{name},HR43,Kitchen,6,7,Yes,"Says ""hi"".",x,x,{actions},9.0\n' for name, actions in rows.items()
    )
    put(root, "Charades/Charades_v1_test.csv", header + lines)
    for seed, name in enumerate(rows):
        if name != "GONE1":
            save_video(root / f"Charades_v1_480/{name}.mp4", frames=6, seed=seed)
    done = extract("--dataset", "charades", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "1 of 5 listed videos missing, and left out:\n  GONE1.mp4  (" in done.stdout
    assert FeatureCache(tmp_path / "features").labels[0] == (
        "Watching/Looking outside of a window",
        "Someone is cooking something",
    )

    done, (document,) = evaluate(
        *("--protocol", "multi-label", "--lexicon", "charades", "--compare", "bike", "--compare", "text4vis"),
        *("--pool", "mean", "--pool", "max", "--pool", "vote", "--pool", "vcs", "--attributes", "hmdb51"),
    )
    assert document["protocol"] == "multi-label"
    result = document["results"][0]
    assert (result["n_videos"], result["n_classes"], result["settings"]["split"]) == (4, 157, "test")
    assert set(result["figures"]) == {"map", "top1"}
    figure = result["figures"]["map"]
    assert re.search(
        rf"^ *mean +{figure['mean']:.1f} \[{figure['low']:.1f}, {figure['high']:.1f}\]",
        done.stdout,
        re.MULTILINE,
    )
    # Of its 157 classes, the three videos with labels have 2, 1 and 1.
    chance = result["settings"]["chance"]["map"]
    assert f"{chance:.1f}" in re.findall(r"chance +([\d.]+) +0\.8", done.stdout)
    assert [comparison["metric"] for comparison in document["comparisons"]] == ["map"] * 8
    assert "mAP, vcs - mean: " in done.stdout
    for note in (
        "1 videos without a label are negatives",
        "154 classes have no video here",
        "1 of the listed videos that were missing",
    ):
        assert note in done.stderr
    assert [(figure["metric"], figure["value"]) for figure in document["published"]] == [("map", 50.4)]
    assert re.search(r"BIKE .* mAP +50\.4", done.stdout)
    assert "text4vis prints no figure for charades under multi-label" in done.stdout
    _, (released,) = evaluate(
        "--protocol", "multi-label", "--lexicon", "charades", "--map-convention", "released"
    )
    assert released["results"][0]["figures"]["map"]["mean"] < figure["mean"] / 10

    refused = vidclip("eval", "--cache", "features", "--lexicon", "charades", cwd=tmp_path)
    assert refused.returncode == 2
    assert "Use --protocol multi-label" in refused.stderr


def test_kinetics_with_missing_videos(extract, evaluate, tmp_path):
    root = tmp_path / "k400"
    listed = [("abseiling", "aaa", 1, 11), ("abseiling", "bbb", 0, 2), ("yoga", "-cc", 0, 10)]
    listed += [("yoga", f"gone{i}", i, 10 + i) for i in range(8)]
    lines = "".join(f"{label},{video},{start},{end},val\n" for label, video, start, end in listed)
    put(root, "annotations/val.csv", "label,youtube_id,time_start,time_end,split\n" + lines)
    put(root, "annotations/test.csv", "youtube_id,time_start,time_end,split\nttt,0,10,test\n")
    save_video(root / "val/abseiling/aaa_000001_000011.mp4", frames=6, seed=1)
    save_video(root / "val/bbb.mp4", frames=40, seed=2)  # the whole video, 4 seconds
    save_video(root / "val/yoga/-cc_000000_000010.mp4", frames=6, seed=3)
    save_video(root / "test/ttt_000000_000010.mp4", frames=6, seed=4)
    done = extract("--dataset", "k400", "--root", root, "--lexicon", "kinetics400")
    assert done.returncode == 0, done.stderr
    assert "8 of 12 listed videos missing" in done.stdout
    assert "  gone0_000000_000010.mp4  (" in done.stdout
    assert "  ... and 3 more" in done.stdout
    assert len(missing(tmp_path / "features")) == 8
    assert "Warning: 1 file named without the times of the clip" in done.stderr
    cache = FeatureCache(tmp_path / "features")
    row = cache.index("val/bbb.mp4#t=0,2")
    assert (cache.timestamps([row]) < 2).all()
    assert cache.videos[row].duration_seconds == pytest.approx(4)
    done, (document,) = evaluate("--lexicon", "k400", "--compare", "text4vis")
    assert document["results"][0]["n_videos"] == 3
    assert "no video of the split test has a label: the split val is tested" in done.stderr
    assert "8 of the listed videos that were missing" in done.stderr
    assert {figure["value"] for figure in document["published"]} == {61.0, 0.2, 54.2}
    done = extract("--dataset", "k400", "--root", root, "--split", "val", "--no-segments", cache="whole")
    assert done.returncode == 0, done.stderr
    assert "val/bbb.mp4" in FeatureCache(tmp_path / "whole")


def test_something_something_frame_folders(extract, evaluate, tmp_path):
    root = tmp_path / "ssv1"
    labels = load_lexicon("ssv1").labels
    put(root, "something-something-v1-labels.csv", "".join(f"{label}\n" for label in labels))
    put(root, "something-something-v1-validation.csv", f"1;{labels[0]}\n2;{labels[173]}\n3;{labels[5]}\n")
    for number in (1, 2):
        save_frames(root / f"20bn-something-something-v1/{number}", 5, seed=number)
    done = extract("--dataset", "something-something-v1", "--root", root)
    assert done.returncode == 0, done.stderr
    assert "1 of 3 listed videos missing, and left out:\n  3  (" in done.stdout
    cache = FeatureCache(tmp_path / "features")
    assert [load_lexicon("ssv1").index(label) for (label,) in cache.labels] == [0, 173]
    assert np.isnan(cache.timestamps()).all()
    done, (document,) = evaluate("--lexicon", "ssv1", "--compare", "bike")
    assert document["results"][0]["settings"]["split"] == "val"
    assert document["published"] == []
    shown = vidclip(
        *("saliency", "20bn-something-something-v1/1", "a hand", "--cache", "features", "--output", "s.png"),
        cwd=tmp_path,
    )
    assert shown.returncode == 0, shown.stderr
    assert "nan" not in shown.stdout
    assert re.search(r"frame +0 +[\d.]+ %", shown.stdout)
    assert "0.00 hours" in vidclip("info", "features", cwd=tmp_path).stdout


@pytest.fixture(scope="module")
def activitynet(tmp_path_factory) -> Path:
    """Two labeled videos of 8 seconds, a test video without labels, and one that is missing. One segment begins
    after the end of its video."""
    root = tmp_path_factory.mktemp("activitynet")
    for seed, name in enumerate(("val/v_one.mp4", "val/v_two.mp4", "test/v_untold.mp4")):
        save_video(root / name, frames=80, seed=seed)

    def video(subset, *annotations):
        found = [{"label": label, "segment": segment} for label, segment in annotations]
        return {"subset": subset, "duration": 8.0, "annotations": found}

    database = {
        "one": video("validation", ("Archery", [1, 3.5]), ("Archery", [5, 8.02])),
        "two": video("validation", ("Ping-pong", [0, 2]), ("Ping-pong", [30, 35])),
        "untold": video("testing"),
        "gone": video("validation", ("Archery", [0, 2])),
    }
    put(root, "activity_net.v1-3.min.json", json.dumps({"version": "VERSION 1.3", "database": database}))
    return root


def test_activitynet_whole_videos(activitynet, extract, evaluate, tmp_path):
    done = extract("--dataset", "activitynet", "--root", activitynet)
    assert done.returncode == 0, done.stderr
    assert [lost["id"] for lost in missing(tmp_path / "features")] == ["v_gone.mp4"]
    done, documents = evaluate(
        *("--protocol", "full-classes", "--protocol", "multi-label", "--lexicon", "anet"),
        *("--compare", "bike", "--compare", "text4vis"),
    )
    single, several = (document["results"][0] for document in documents)
    assert single["settings"]["split"] == several["settings"]["split"] == "val"
    assert single["figures"]["top1"] == several["figures"]["top1"]
    assert {figure["value"] for figure in documents[0]["published"]} >= {80.0, 75.6}
    assert {figure["value"] for figure in documents[1]["published"]} == {96.5, 96.9}


def test_activitynet_segments(activitynet, extract, evaluate, tmp_path):
    done = extract("--dataset", "activitynet", "--root", activitynet, "--segments")
    assert done.returncode == 1, "a segment that is not in its video cannot be read"
    (failure,) = [
        json.loads(line) for line in (tmp_path / "features/failures.jsonl").read_text().splitlines()
    ]
    assert failure["id"] == "val/v_two.mp4#t=30,35"
    assert re.search(r"the segment 30.0 to 35.0 s begins after the video's end at 8.0 s", failure["reason"])
    assert failure["reason"].endswith("activity_net.v1-3.min.json, video 'two')"), "where it was listed"
    assert failure["reason"] in done.stdout
    cache = FeatureCache(tmp_path / "features")
    assert cache.ids == ["val/v_one.mp4#t=1,3.5", "val/v_one.mp4#t=5,8.02", "val/v_two.mp4#t=0,2"]
    seconds = cache.timestamps([0])
    assert seconds.min() >= 1
    assert seconds.max() < 3.5
    _, (document,) = evaluate("--lexicon", "activitynet")
    assert document["results"][0]["n_videos"] == 3

    hours = json.loads(vidclip("info", "features", "--json", "-", cwd=tmp_path).stdout)["hours"]
    assert hours * 3600 == pytest.approx(16), "two files of 8 seconds, one with two segments"


def test_saliency_draws_the_segment_and_refuses_another_video(activitynet, extract, tmp_path, monkeypatch):
    root = tmp_path / "root"
    video = save_video(root / "long.mp4", frames=80, seed=5)
    put(root, "list.csv", "path,label,start,end\nlong.mp4,a,2,4\nlong.mp4,a,5,\n")
    assert extract(root / "list.csv").returncode == 0
    drawn = []
    from vidclip.pipeline import report

    strip = report.saliency_strip
    monkeypatch.setattr(report, "saliency_strip", lambda *given: drawn.append(given) or strip(*given))
    asked = ("saliency", "long.mp4#t=2,4", "a dog", "--cache", "features", "--output", "s.png")
    done = vidclip(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"frame +(\d+) +([\d.]+) s", done.stdout)[0] == ("20", "2.00")
    (((shown,), phrases),) = drawn
    assert (shown.name, phrases) == ("long.mp4#t=2,4", ("a dog",))
    assert shown.caption(0) == "2.0 s"

    from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling, VideoRequest, decode_video

    stored = FeatureCache(tmp_path / "features").identity.encoder["preprocess"]
    preprocess = Preprocess.from_dict({**stored, "resize": None})
    inside = decode_video(VideoRequest(video, 2, 4), ClipSpec(Sampling(3), preprocess))
    np.testing.assert_array_equal(shown.frames, inside.pixels[0])

    several = vidclip("saliency", video, "a dog", "--cache", "features", cwd=tmp_path)
    assert "may be any of long.mp4#t=2,4, long.mp4#t=5" in several.stderr
    save_video(video, frames=120, size=48, fps=20, seed=5)
    changed = vidclip(*asked, cwd=tmp_path)
    assert changed.returncode == 2
    assert "long.mp4 now gives the frames 40, " in changed.stderr
    assert "where the features are of 20, " in changed.stderr
    assert "the file has changed" in changed.stderr
    video.unlink()
    gone = vidclip(*asked, cwd=tmp_path)
    assert gone.returncode == 2
    assert "cannot be drawn" in gone.stderr


# --- lists of the repositories, and lists of one's own


def test_lists_of_the_repositories(extract, tmp_path):
    root = tmp_path / "videos"
    save_video(root / "abseiling/a.mp4", frames=6)
    save_frames(root / "yoga/b", 4, seed=0)
    yoga = load_lexicon("k400").index("yoga")
    put(tmp_path, "val.txt", f"abseiling/a 6 0\nyoga/b 4 {yoga}\nyoga/gone 4 {yoga}\n")
    for arguments, message in (
        ((), "say with --lexicon which classes they count"),
        (("--lexicon", "k400"), "1 listed video cannot be found"),
        (("--lexicon", "hmdb51"), "but the lexicon hmdb51 has the classes 0 to 50"),
    ):
        done = extract("val.txt", "--root", root, *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    done = extract("val.txt", "--root", root, "--lexicon", "k400", "--allow-missing")
    assert done.returncode == 0, done.stderr
    assert "1 of 3 listed videos missing, and left out:\n  yoga/gone  (val.txt, row 3)" in done.stdout
    assert FeatureCache(tmp_path / "features").labels == [("abseiling",), ("yoga",)]
    assert missing(tmp_path / "features")[0]["listed_in"] == "val.txt, row 3"


def test_a_list_with_segments_says_the_row_of_what_is_not_there(extract, tmp_path):
    save_video(tmp_path / "a.mp4", frames=20)
    put(tmp_path, "list.csv", "path,labels,start,end\na.mp4,b;c,0,1\na.mp4,c,7,9\n")
    done = extract("list.csv")
    assert done.returncode == 1
    assert (
        "a.mp4#t=7,9: the segment 7.0 to 9.0 s begins after the video's end at 2.0 s (list.csv, row 3)"
        in done.stdout
    )
    assert FeatureCache(tmp_path / "features").labels == [("b", "c")]


# --- what is wrong is said before the work


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["videos", "--dataset", "ucf101"], "SOURCE and --dataset ucf101 both say which videos to read"),
        (["--dataset", "ucf101"], "--dataset ucf101 needs --root"),
        (["videos", "--split", "1"], "--split goes with --dataset alone"),
        (["videos", "--segments"], "--segments goes with --dataset alone"),
        (["--dataset", "ucf102", "--root", "videos"], "no data set called 'ucf102'. Did you mean ucf101?"),
        (["--dataset", "ucf101", "--root", "nowhere"], "The root nowhere is not a folder"),
        (["--dataset", "ucf101", "--root", "videos"], "videos holds no classInd.txt"),
        (["--dataset", "ucf101", "--root", "{ucf101}", "--split", "4"], "ucf101 has the splits 1, 2, 3, not '4'"),
        (["--dataset", "ucf101", "--root", "videos", "--annotations", "{ucf101}/ucfTrainTestlist"], "None of the 6 listed videos is below videos"),
        (["--dataset", "ucf101", "--root", "{ucf101}", "--segments"], "ucf101 is read as whole videos"),
        (["--dataset", "ucf101", "--root", "{ucf101}", "--lexicon", "hmdb51"], "Labels that the lexicon hmdb51 does not have: 'Archery'"),
        (["--dataset", "k400", "--root", "bad"], "bad/val.csv, row 1 has no column 'time_end'"),
        (["--dataset", "k600", "--root", "odd"], "odd/val.csv, row 2 and 1 more"),
        (["videos/list.csv", "--lexicon", "hmdb51"], "'wavy' (videos/list.csv, row 2; closest: 'wave'"),
        (["videos/list.txt"], "say with --lexicon which classes they count"),
    ],
)  # fmt: skip
def test_wrong_requests(ucf101, extract, tmp_path, arguments, message):
    put(tmp_path, "videos/a.mp4", "")
    put(tmp_path, "videos/list.csv", "path,label\na.mp4,wavy\n")
    put(tmp_path, "videos/list.txt", "a.mp4 0\n")
    put(tmp_path, "bad/val.csv", "label,youtube_id,time_start\nabseiling,a,1\n")
    put(tmp_path, "odd/val.csv", "label,youtube_id,time_start,time_end\nabsailing,a,1,2\nabsailing,b,1,2\n")
    done = extract(*(argument.format(ucf101=ucf101) for argument in arguments))
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "features").exists()


def test_what_stands_nearer_counts(ucf101, extract, tmp_path):
    """A folder in vidclip.toml does not stand in the way of --dataset, nor the other way round."""
    model = (tmp_path / "vidclip.toml").read_text()
    save_video(tmp_path / "videos" / "a.mp4", frames=4)
    put(tmp_path, "vidclip.toml", f'{model}[extract]\nsource = "videos"\n')
    assert "1 video encoded" in extract(cache="mine").stdout
    given = extract("--dataset", "ucf101", "--root", ucf101, "--split", 2, cache="given")
    assert "5 videos encoded" in given.stdout
    put(tmp_path, "vidclip.toml", f'{model}[extract]\ndataset = "ucf101"\nroot = "{ucf101}"\nsplit = "1"\n')
    assert "5 videos encoded" in extract().stdout
    own = extract("videos", "--root", tmp_path, cache="own")
    assert (own.returncode, "1 video encoded" in own.stdout) == (0, True), own.stderr
    put(
        tmp_path,
        "vidclip.toml",
        f'{model}[extract]\nsource = "videos"\ndataset = "ucf101"\nroot = "{ucf101}"\n',
    )
    assert "give one of them" in extract().stderr


# --- the papers' figures


def test_compare_needs_to_know_the_data_set(ucf101, extract, tmp_path):
    assert extract("--dataset", "ucf101", "--root", ucf101).returncode == 0
    put(tmp_path, "mine.txt", "Archery\nYoYo\n")
    lines = zip(load_lexicon("ucf101").labels, load_lexicon("ucf101").phrases, strict=True)
    put(tmp_path, "prompted.txt", "".join(f"{label}\tsomeone: {phrase}\n" for label, phrase in lines))
    asked = ("eval", "--cache", "features", "--device", "cpu", "--split", "test1", "--compare", "bike")
    done = vidclip(*asked, cwd=tmp_path)
    assert done.returncode == 2
    assert "whose classes are these? Say it with --lexicon ucf101." in done.stderr
    assert "whose classes are those of mine?" in vidclip(*asked, "--lexicon", "mine.txt", cwd=tmp_path).stderr
    own = vidclip(*asked, "--lexicon", "prompted.txt", cwd=tmp_path)
    assert own.returncode == 0, own.stderr
    assert re.search(r"BIKE +5 +fine-tuned +ViT-L/14 +8 +\? +0 +top-1 +80\.8", own.stdout), (
        "other words, same classes"
    )
    assert "no target for frozen features" in own.stdout
