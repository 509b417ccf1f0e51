"""The commands as their user types them: real videos, real processes, every exit status."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from helpers import a_record, save_video, vidclip
from vidclip.cache import FeatureCache, list_texts


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """root/<label>/<video>, three labels of two videos, one of them markup."""
    root = tmp_path_factory.mktemp("videos")
    for label in ("air_drumming", "[b]juggling", "tai chi"):
        for number in range(2):
            save_video(root / label / f"{number}.mp4", frames=12, seed=2 * len(label) + number)
    (root / "README.txt").write_text("not a video")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory, videos, tiny_model) -> Path:
    """A prepared folder, extracted: what a user has after the first command."""
    folder = tmp_path_factory.mktemp("prepared")
    settings = f'model = "{tiny_model}"\ndevice = "cpu"\n[extract]\nsource = "{videos}"\nframes = 4\nworkers = 2\nprecision = "fp32"\n'
    (folder / "vidclip.toml").write_text(settings)
    done = vidclip("extract", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "6 videos encoded" in done.stdout
    assert "Left out: 1 file not named like a video" in done.stdout
    assert re.fullmatch(r"[\d.]+ s: 0 of 6 videos\n", done.stderr), (
        "one line at once, the next after half a minute"
    )
    return folder


# --- the program


def test_help_imports_neither_torch_nor_h5py():
    code = "import sys; sys.argv = ['vidclip', '--help']\nfrom vidclip.cli.main import main\ntry: main()\nexcept SystemExit: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(re.findall(r"'(\w+)'", done.stdout))
    assert {"click", "vidclip"} <= loaded
    assert not {"torch", "h5py", "numpy", "rich", "open_clip"} & loaded


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "dataset check", "extract", "attributes", "eval", "fit", "predict", "import-model"),
        *("plot correlation", "plot few-shot", "plot confusion"),
        *("saliency", "info", "verify", "merge", "cost", "lexicons"),
    ],
)
def test_every_command_has_help_with_an_example(command):
    done = vidclip(*command.split(), "--help")
    assert done.returncode == 0
    assert f"vidclip {command}" in " ".join(done.stdout.split("Example:")[1].split())
    assert "--debug" in done.stdout


def test_a_misspelt_command_is_guessed():
    done = vidclip("extrakt")
    assert done.returncode == 2
    assert "Did you mean extract?" in done.stderr


# --- extract


def test_extract_again_does_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in (folder / "features").glob("frames-*.h5")}
    done = vidclip("extract", cwd=folder)
    assert done.returncode == 0
    assert "0 videos encoded" in done.stdout
    assert "6 done before" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "features").glob("frames-*.h5")}


def test_extract_with_other_settings_names_both(folder):
    done = vidclip("extract", "--frames", 5, cwd=folder)
    assert done.returncode == 2
    assert "Error: features was extracted with" in done.stderr
    assert "4 frames; this run asks for" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "Traceback" in vidclip("extract", "--frames", 5, "--debug", cwd=folder).stderr


def test_a_flag_stands_before_the_environment_before_the_file(folder, tmp_path):
    assert "5 frames" in vidclip("extract", cwd=folder, VIDCLIP_EXTRACT_FRAMES="5").stderr
    assert "6 frames" in vidclip("extract", "--frames", "6", cwd=folder, VIDCLIP_EXTRACT_FRAMES="5").stderr
    elsewhere = vidclip("info", cwd=tmp_path, VIDCLIP_CACHE=str(folder / "features"))
    assert "6, 0.00 hours, 3 labels" in elsewhere.stdout


def test_what_could_not_be_read_is_listed_and_counted(tmp_path, tiny_model):
    save_video(tmp_path / "videos" / "good.mp4", frames=6)
    (tmp_path / "videos" / "empty.mp4").write_bytes(b"")
    (tmp_path / "videos" / "text.mp4").write_text("hello")
    settings = ("--model", tiny_model, "--frames", 4, "--device", "cpu", "--workers", 1)
    done = vidclip("extract", "videos", *settings, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 video encoded" in done.stdout
    assert "2 videos of 3 could not be read" in done.stdout
    assert "empty.mp4: " in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "features" / "failures.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {"empty.mp4", "text.mp4"}
    assert all(line["reason"] and line["stage"] for line in lines)

    again = vidclip("extract", "videos", *settings, cwd=tmp_path)
    assert again.returncode == 0, "nothing new"
    assert "3 done before" in again.stdout
    assert "No new failures. 2 videos of 3 could not be read before" in again.stdout
    strict = vidclip("extract", "videos", *settings, "--strict", cwd=tmp_path)
    assert strict.returncode == 1
    assert "2 videos of 3 could not be read, 2 of them reported before" in strict.stdout
    (tmp_path / "videos" / "late.mp4").write_text("hello")
    third = vidclip("extract", "videos", *settings, cwd=tmp_path)
    assert third.returncode == 1
    assert "3 videos of 4 could not be read, 2 of them reported before" in third.stdout
    assert re.findall(r"^  (\S+): ", third.stdout, re.MULTILINE) == ["late.mp4"], "the new one is named"
    (tmp_path / "videos" / "late.mp4").unlink()

    save_video(tmp_path / "videos" / "empty.mp4", frames=7)
    mended = vidclip("extract", "videos", *settings, cwd=tmp_path)
    assert mended.returncode == 0
    assert "1 video encoded" in mended.stdout, "its file has changed"
    retried = vidclip("extract", "videos", *settings, "--retry-failed", cwd=tmp_path)
    assert retried.returncode == 1, "it has failed again"
    assert "1 video of 3 could not be read; all are listed" in retried.stdout
    assert FeatureCache(tmp_path / "features").ids == ["empty.mp4", "good.mp4"]
    info = vidclip("info", cwd=tmp_path)
    assert re.search(r"failures +2 \(\w+ 2\)", info.stdout), (
        "late.mp4 is in no list of today, but not forgotten"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no videos were named"),
        (["nowhere"], "nowhere"),
        (["videos", "--frames", "0"], "--frames"),
        (["videos", "--frames", "1000000000000"], "--frames"),
        (["videos", "--frames", "9000", "--clips", "8"], "frames x clips x crops must be at most 65,536"),
        (["videos", "--worker-memory", "0.1"], "is not a number of GiB, 0.25 at least"),
        (
            ["videos", "--crop-positions", "width"],
            "--crop-positions goes with --crops 3 alone",
        ),
        (["videos", "--part", "3/3"], "is neither i/n with 0 <= i < n"),
        (["videos", "--resize", "8"], "--resize"),
        (["videos", "--lexicon", "hmdb51"], "hmdb51"),
        (["videos", "--model", "ViT-B-23"], "Did you mean"),
        (["list.csv"], "row 3"),
    ],
)
def test_wrong_requests_are_answered_before_any_work(tmp_path, tiny_model, arguments, message):
    save_video(tmp_path / "videos" / "juggling" / "a.mp4", frames=4)
    (tmp_path / "list.csv").write_text(
        "path,label\nvideos/juggling/a.mp4,juggling\nvideos/none.mp4,juggling\n"
    )
    if "--model" not in arguments:
        arguments = [*arguments, "--model", tiny_model]
    done = vidclip("extract", *arguments, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "features").exists()


def test_one_value_may_stand_where_several_can(folder, tmp_path, tiny_model):
    settings = f'model = "{tiny_model}"\ncache = "{folder / "features"}"\n[lexicons]\nlabels = true\n[eval]\nprompt = "bike"\npool = ["max", "released-bike"]\n'
    (tmp_path / "vidclip.toml").write_text(settings)
    done = vidclip("eval", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *max +\d", done.stdout, re.MULTILINE)
    assert "released-bike - max: " in done.stdout
    assert vidclip("lexicons", "ucf101", cwd=tmp_path).stdout.startswith("ApplyEyeMakeup")


def test_misspelt_settings_in_the_file_are_found(tmp_path):
    (tmp_path / "vidclip.toml").write_text("[extract]\nframe = 3\n")
    done = vidclip("extract", cwd=tmp_path)
    assert done.returncode == 2
    assert "vidclip.toml: frame: `vidclip extract` has no such option. Did you mean frames?" in done.stderr
    (tmp_path / "vidclip.toml").write_text("[extrakt]\nframes = 3\n")
    assert (
        "[extrakt]: there is no such command. Did you mean extract?" in vidclip("info", cwd=tmp_path).stderr
    )
    (tmp_path / "vidclip.toml").write_text("cash = 'f'\n")
    assert "Did you mean cache?" in vidclip("info", cwd=tmp_path).stderr
    (tmp_path / "vidclip.toml").write_text("cache = \n")
    assert "vidclip.toml cannot be read" in vidclip("info", cwd=tmp_path).stderr


def test_crops_along_the_width_are_a_sampling_of_their_own(tmp_path, videos, tiny_model):
    arguments = [
        "extract",
        videos,
        "--model",
        tiny_model,
        "--frames",
        2,
        "--crops",
        3,
        "--cache",
        tmp_path / "crops",
    ]
    done = vidclip(*arguments, "--crop-positions", "width", "--worker-memory", "none")
    assert done.returncode == 0, done.stderr
    assert FeatureCache(tmp_path / "crops").identity.sampling["crop_positions"] == "width"
    done = vidclip(*arguments)
    assert done.returncode == 2
    assert "1 x 3 views, crops along the width; this run asks for" in done.stderr
    video = FeatureCache(tmp_path / "crops").ids[0]
    done = vidclip(
        "saliency",
        video,
        "a dog",
        "--cache",
        tmp_path / "crops",
        "--output",
        tmp_path / "a.png",
        "--model",
        tiny_model,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_job_arrays_share_one_cache(tmp_path, videos, tiny_model):
    settings = (
        "--model",
        tiny_model,
        "--frames",
        4,
        "--device",
        "cpu",
        "--workers",
        1,
        "--cache",
        tmp_path / "c",
    )
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vidclip.cli.main",
                "extract",
                str(videos),
                *map(str, settings),
                "--part",
                f"{i}/2",
            ]
        )
        for i in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert len(FeatureCache(tmp_path / "c")) == 6


# --- eval


def test_eval_prints_a_table_and_writes_json(folder):
    done = vidclip("eval", "--json", "result.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "full-classes: 6 videos, 3 classes (labels)" in done.stdout
    assert re.search(r"chance +33\.3", done.stdout)
    (document,) = json.loads((folder / "result.json").read_text())
    (result,) = document["results"]
    top1 = result["figures"]["top1"]["mean"]
    assert re.search(rf"mean +{top1:.1f} \[", done.stdout)
    assert result["settings"]["prompts"] == ["This is a video about {}"]
    assert list((folder / "features").glob("text-labels-*.h5")), "kept for the next time"


def test_eval_half_classes_and_lexicons(folder, tmp_path):
    done = vidclip("eval", "--protocol", "half-classes", "--repeats", 1, "--lexicon", "hmdb51", cwd=folder)
    assert done.returncode == 2
    assert "'[b]juggling' is not in the lexicon hmdb51" in done.stderr
    lexicon = tmp_path / "mine.txt"
    lexicon.write_text("air drumming\n[b]juggling\ntai chi\nabseiling\n")
    half = ("eval", "--protocol", "half-classes", "--lexicon", lexicon)
    done = vidclip(*half, cwd=folder)
    assert done.returncode == 2
    assert "only one of these has videos: there is nothing to tell apart" in done.stderr
    lexicon.write_text("abseiling\nair drumming\n[b]juggling\ntai chi\n")  # so the first four halves have two
    done = vidclip(*half, "--repeats", 4, "--json", "-", cwd=folder)
    assert done.returncode == 0, done.stderr
    repetitions = json.loads(done.stdout)[0]["results"][0]["repetitions"]
    assert [repetition["n_classes"] for repetition in repetitions] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "nothing"], "needs one {}"),
        (["--split", "test"], "has no splits, not 'test'"),
        (["--lexicon", "kinetics40"], "kinetics400"),
        (["--cache", "nowhere"], "Make one with `vidclip extract`"),
    ],
)
def test_eval_says_what_is_wrong(folder, arguments, message):
    done = vidclip("eval", *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_kinetics600_and_splits(tmp_path, tiny_model, write_cache, rng):
    from dataclasses import replace

    from vidclip.lexicons import load_lexicon
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    encoder = load_encoder(tiny_model, device="cpu")
    new = load_lexicon("kinetics600-zeroshot-1").labels
    splits = ["test1 test2", "test3", "train"]
    records = [
        replace(
            a_record(f"{i}", rng, labels=(label,), split=splits[i % 3]),
            frames=rng.standard_normal((1, 4, 32)).astype(np.float32),
        )
        for i, label in enumerate(new)
    ]
    folder = write_cache(records, identity=cache_identity(encoder, Sampling(4)))
    done = vidclip(
        "eval", "--cache", folder, "--lexicon", "k600", "--device", "cpu", "--json", tmp_path / "r.json",
        "--protocol", "splits", "--protocol", "kinetics600", "--split", "test3", "--model", tiny_model,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    by_split, by_classes = json.loads((tmp_path / "r.json").read_text())
    counts = [run["n_videos"] for run in by_split["results"][0]["repetitions"]]
    assert counts == [54, 54, 53]
    runs = by_classes["results"][0]["repetitions"]
    assert [run["n_classes"] for run in runs] == [160, 160, 160]
    assert runs[0]["n_videos"] == 53, "all new classes of the first list"
    assert all(run["n_videos"] < 53 for run in runs[1:])


# --- saliency


def test_saliency_shows_shares_and_draws_them(folder, videos):
    done = vidclip("saliency", "tai chi/0.mp4", "tai chi", "a dog", "--output", "s.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    shares = [float(value) for value in re.findall(r"([\d.]+) % ", done.stdout)]
    assert len(shares) == 8
    assert sum(shares[:4]) == pytest.approx(100, abs=0.3)
    assert sum(shares[4:]) == pytest.approx(100, abs=0.3)
    with Image.open(folder / "s.png") as picture:
        assert picture.format == "PNG"
    by_path = vidclip("saliency", videos / "tai chi" / "0.mp4", "tai chi", cwd=folder)
    assert by_path.stdout.splitlines()[2:6] == done.stdout.splitlines()[2:6]


@pytest.mark.parametrize(
    ("video", "message"),
    [("0.mp4", "may be any of"), ("tai chi/9.mp4", "Closest: tai chi/"), ("zzz", "is not in features")],
)
def test_saliency_of_what_is_not_there(folder, video, message):
    done = vidclip("saliency", video, "a dog", cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr


# --- attributes


def test_attributes_in_the_released_form(folder, tmp_path):
    done = vidclip("attributes", "--lexicon", "hmdb51", "--top", 3, "--json", tmp_path / "a.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "3 attributes of 6 videos from 51 phrases, computed" in done.stdout
    document = json.loads((tmp_path / "a.json").read_text())
    assert set(document) == set(FeatureCache(folder / "features").ids)
    assert all(len(entry["classname_topk"]) == 3 for entry in document.values())
    assert "there already" in vidclip("attributes", "--lexicon", "hmdb51", "--top", 3, cwd=folder).stdout
    fused = vidclip(
        "eval", "--attributes", "hmdb51", "--top", 3, "--pool", "mean", "--pool", "vcs", cwd=folder
    )
    assert re.search(r"vcs \+ attributes \(0\.6\) +\d", fused.stdout)
    assert "attributes - mean: " in fused.stdout
    (tmp_path / "empty.txt").write_text("\n")
    empty = vidclip("attributes", "--lexicon", tmp_path / "empty.txt", cwd=folder)
    assert empty.returncode == 2
    assert "empty" in empty.stderr


def test_a_head_is_trained_and_used_and_refused(folder, videos, other_tiny_model, tmp_path):
    none = vidclip(
        "fit", "--head", "attributes", "--attributes", "hmdb51", "--train-split", "train", cwd=folder
    )
    assert none.returncode == 2
    assert "has no splits, not 'train'" in none.stderr
    rows = [f"{path},{path.parent.name},train" for path in sorted(videos.rglob("*.mp4"))]
    (tmp_path / "list.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    assert vidclip("extract", tmp_path / "list.csv", "--cache", tmp_path / "c", cwd=folder).returncode == 0
    head = tmp_path / "head.safetensors"
    done = vidclip(
        "fit",
        "--head",
        "attributes",
        "--attributes",
        "hmdb51",
        "--cache",
        tmp_path / "c",
        "--epochs",
        3,
        "--output",
        head,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "attributes head, 6 videos of 3 classes; epoch 3 of 3 kept" in done.stdout
    used = vidclip("eval", "--cache", tmp_path / "c", "--split", "train", "--head", head, cwd=folder)
    assert used.returncode == 0, used.stderr
    assert re.search(r"mean \+ attributes, trained \(head\) \(0\.6\) +\d", used.stdout)
    for path in (tmp_path / "c").glob("text-labels-*.h5"):
        path.unlink()
    vidclip(
        "eval", "--cache", tmp_path / "c", "--split", "train", "--head", head, "--prompt", "none", cwd=folder
    )
    prompts = {text.prompts for text in list_texts(tmp_path / "c") if text.lexicon == "labels"}
    assert prompts == {("{}",), ("This is a video about {}",)}, (
        "the head keeps the prompt it was trained with"
    )
    vidclip(
        "extract", tmp_path / "list.csv", "--model", other_tiny_model, "--cache", tmp_path / "o", cwd=folder
    )
    refused = vidclip("eval", "--cache", tmp_path / "o", "--split", "train", "--head", head, cwd=folder)
    assert refused.returncode == 2
    assert "trained on another encoder" in refused.stderr


# --- info, verify, merge, lexicons


def test_info_tells_what_shaped_the_features(folder):
    done = vidclip("info", cwd=folder)
    assert done.returncode == 0
    weights = FeatureCache(folder / "features").identity.encoder["weights_sha256"]
    for text in ("1 views x 4 frames x 32, fp32", "activation gelu", weights, "3 labels", "failures   none"):
        assert text in done.stdout
    facts = json.loads(vidclip("info", "--json", "-", cwd=folder).stdout)
    assert facts["videos"] == 6


def test_info_of_two_caches_says_where_they_differ(folder, videos, other_tiny_model):
    vidclip("extract", videos, "--model", other_tiny_model, "--cache", "other", cwd=folder)
    done = vidclip("info", "features", "other", cwd=folder)
    assert done.returncode == 0
    assert "not to be mixed" in done.stdout
    assert "weights_sha256" in done.stdout
    assert "activation" not in done.stdout, "what is the same is not listed"
    assert "same encoder, sampling and videos" in vidclip("info", "features", "features", cwd=folder).stdout


def test_verify_names_the_damaged_shard(folder, tmp_path):
    assert vidclip("verify", cwd=folder).returncode == 0
    shutil.copytree(folder / "features", tmp_path / "harmed")
    path = tmp_path / "harmed" / "frames-00000.h5"
    with h5py.File(path) as file:
        place = file["frames"].id.get_offset()
    raw = path.read_bytes()
    path.write_bytes(raw[:place] + b"\xff\x7f" + raw[place + 2 :])
    done = vidclip("verify", "--cache", tmp_path / "harmed")
    assert done.returncode == 2
    assert "frames-00000.h5 has changed" in done.stderr
    assert re.search(r"1 of \d files? not sound", done.stdout)
    for command in ("eval", "plot confusion"):  # nobody computes anything from it
        output = ("--output", tmp_path / "picture.png") if command.startswith("plot") else ()
        done = vidclip(*command.split(), "--cache", tmp_path / "harmed", *output)
        assert done.returncode == 2
        assert "frames-00000.h5 has changed" in done.stderr
        assert done.stdout == ""


def test_merge_joins_two_shards(tmp_path, videos, tiny_model, folder):
    for part in range(2):
        done = vidclip(
            "extract", videos, "--model", tiny_model, "--frames", 4, "--device", "cpu", "--workers", 1,
            "--precision", "fp32", "--part", f"{part}/2", "--cache", tmp_path / f"part{part}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    done = vidclip("merge", tmp_path / "part0", tmp_path / "part1", "--output", tmp_path / "joined")
    assert done.returncode == 0, done.stderr
    assert "6 videos taken in" in done.stdout
    joined, whole = FeatureCache(tmp_path / "joined"), FeatureCache(folder / "features")
    assert joined.ids == whole.ids
    np.testing.assert_array_equal(joined.frames(), whole.frames())


def test_lexicons_are_listed_and_printed():
    listed = vidclip("lexicons").stdout
    assert re.search(r"kinetics400 +k400 .* 400", listed)
    printed = vidclip("lexicons", "k400").stdout.splitlines()
    assert (len(printed), printed[0]) == (400, "abseiling")
    assert vidclip("lexicons", "ucf101", "--labels").stdout.splitlines()[0] == "ApplyEyeMakeup"
    unknown = vidclip("lexicons", "k401")
    assert unknown.returncode == 2
    assert "Did you mean kinetics400?" in unknown.stderr
