"""`vidclip import-model`, and the commands it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from helpers import save_video, vidclip
from released_files import a_clip, a_t_trans, attributes_mlps, bike_file, text4vis_file
from vidclip.pipeline import load_encoder, read_videos
from vidclip.pipeline.heads import load_head
from vidclip.pipeline.video import ClipSpec, VideoRequest, decode_video
from xclip_models import tiny_xclip

NAMES = ("juggling", "rowing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with videos of two classes, their names, and a file of BIKE."""
    for number, name in enumerate(NAMES):
        save_video(tmp_path / "videos" / name / "0.mp4", frames=8, seed=number)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    torch.save(bike_file(a_clip(), a_t_trans()), tmp_path / "k400-vitb-f4.pt")
    return tmp_path


def printed_commands(text: str) -> list[list[str]]:
    lines = text.split("Next:\n")[1].splitlines()
    return [shlex.split(line.replace("VIDEOS", "videos"))[1:] for line in lines]


def test_the_commands_it_prints_go_on(folder: Path):
    done = vidclip(
        *("import-model", "k400-vitb-f4.pt", "--output", "bike", "--lexicon", "names.txt"), cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "Found: BIKE, a CLIP of width 128, patches of 16, clips of 4 frames of 32 x 32." in done.stdout
    assert "Made:  bike: an encoder of 64 dimensions and 2 classes in head.safetensors." in done.stdout
    extract, evaluate = printed_commands(done.stdout)
    assert vidclip(*extract, "--workers", 1, "--device", "cpu", cwd=folder).returncode == 0
    shown = vidclip(*evaluate, "--json", "r.json", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert (
        "text + transformer of 2 heads, vcs, words all, not renormalized (head)"
        in (folder / "r.json").read_text()
    )
    model = ("--model", "local-dir:bike", "--workers", 1, "--device", "cpu")
    head = ("--head", "bike/head.safetensors", "--json", "p.json")
    predicted = vidclip("predict", "videos", *head, *model, cwd=folder)
    assert predicted.returncode == 0, predicted.stderr
    assert len(json.loads((folder / "p.json").read_text())["predictions"]) == 2


def test_the_attributes_branch_is_a_row_of_eval(folder: Path):
    torch.save(bike_file(a_clip(), attributes_mlps()), folder / "attributes.pt")
    (folder / "phrases.txt").write_text("ball\npark\nboat\nwater\nmat\ntree")
    asked = ("import-model", "attributes.pt", "--frames", 4, "--output", "a", "--attributes", "phrases.txt")
    refused = vidclip(*asked, cwd=folder)
    assert refused.returncode == 2
    assert "--attributes goes with --lexicon alone" in refused.stderr
    done = vidclip(*asked, "--lexicon", "names.txt", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Found: BIKE attributes branch, a CLIP of width 128" in done.stdout
    extract, evaluate = printed_commands(done.stdout)
    assert vidclip(*extract, "--workers", 1, "--device", "cpu", cwd=folder).returncode == 0
    shown = vidclip(*evaluate, "--json", "r.json", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    rows = [result["scorer"] for result in json.loads((folder / "r.json").read_text())[0]["results"]]
    assert [row for row in rows if row.startswith("a")] == ["attributes", "attributes, trained (head)"]


def test_text4vis_needs_a_text_tower(folder: Path):
    torch.save(text4vis_file(a_clip(1), None), folder / "t-f4.pt")
    refused = vidclip("import-model", "t-f4.pt", "--output", "t", cwd=folder)
    assert refused.returncode == 2
    assert "Add --text openai" in refused.stderr
    vidclip("import-model", "k400-vitb-f4.pt", "--output", "bike", cwd=folder)
    done = vidclip("import-model", "t-f4.pt", "--output", "t", "--text", "local-dir:bike", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "No head: --lexicon gives its classes." in done.stdout
    assert printed_commands(done.stdout)[1][-2:] == ["--pool", "mean"]


def test_x_clip_scores_what_its_cache_and_videos_hold(folder: Path):
    tiny_xclip(4, 1).save_pretrained(folder / "hf")
    made = vidclip("import-model", "hf", "--output", "x", "--lexicon", "names.txt", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "an encoder of 64 dimensions, with cross-frame inside and 2 classes" in made.stdout
    extract, evaluate = printed_commands(made.stdout)
    here = ("--workers", 1, "--device", "cpu")
    assert vidclip(*extract, *here, cwd=folder).returncode == 0
    both = ("--video-prompts", "on", "--video-prompts", "off", "--json", "r.json")
    shown = vidclip(*evaluate, *both, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    rows = [result["scorer"] for result in json.loads((folder / "r.json").read_text())[0]["results"]]
    assert rows == ["mean", "x-clip (head)", "text + mit of 1 heads (head)"]
    head, model = ("--head", "x/head.safetensors"), ("--model", "local-dir:x")
    (folder / "others.txt").write_text("surfing\narchery\nrowing")
    for options, labels in ((("--lexicon", "others.txt"), 3), ((), 2)):
        done = vidclip("predict", "videos", *head, *model, *here, *options, "--json", "p.json", cwd=folder)
        assert done.returncode == 0, done.stderr
        found = json.loads((folder / "p.json").read_text())["predictions"]
        assert [len(each["classes"]) for each in found] == [labels, labels]
    scores_of = {row["video"]: row["classes"] for row in found}
    encoder = load_encoder("local-dir:" + str(folder / "x"), device="cpu", precision="fp32")
    stored = load_head(folder / "x" / "head.safetensors")
    for video in read_videos(folder / "videos"):
        pixels = decode_video(VideoRequest(video.path), ClipSpec.from_identity(stored.identity)).pixels
        with torch.no_grad():
            scores = stored.module(*encoder.encode_clips(torch.from_numpy(pixels)))
        expected = dict(zip(NAMES, (scores[0] / stored.temperature).softmax(dim=0).tolist(), strict=True))
        assert {one["label"]: one["probability"] for one in scores_of[video.id]} == pytest.approx(
            expected,
            abs=2e-2,  # the encoder may compute in bf16
        )


def test_prompts_of_x_clip_are_refused_where_there_are_no_patch_tokens(folder: Path):
    tiny_xclip(4, 1).save_pretrained(folder / "hf")
    made = vidclip("import-model", "hf", "--output", "x", "--lexicon", "names.txt", cwd=folder)
    extract, evaluate = printed_commands(made.stdout)
    assert vidclip(*extract, "--no-patches", "--workers", 1, "--device", "cpu", cwd=folder).returncode == 0
    refused = vidclip(*evaluate, cwd=folder)
    assert refused.returncode == 2
    assert "without --no-patches" in refused.stderr
    assert vidclip(*evaluate, "--video-prompts", "off", cwd=folder).returncode == 0
    none = vidclip("eval", "--cache", "features-x", "--video-prompts", "off", cwd=folder)
    assert "--video-prompts" in none.stderr
