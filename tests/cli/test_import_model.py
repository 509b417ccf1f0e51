"""`vidclip import-model`, and the commands it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from helpers import save_video, vidclip
from released_files import a_clip, a_t_trans, bike_file, text4vis_file
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


def test_prompts_of_x_clip_are_refused_where_there_are_no_patch_tokens(folder: Path):
    tiny_xclip(4, 1).save_pretrained(folder / "hf")
    made = vidclip("import-model", "hf", "--output", "x", "--lexicon", "names.txt", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "an encoder of 64 dimensions, with cross-frame inside and 2 classes" in made.stdout
    extract, evaluate = printed_commands(made.stdout)
    assert vidclip(*extract, "--workers", 1, "--device", "cpu", cwd=folder).returncode == 0
    assert vidclip(*evaluate, cwd=folder).returncode == 0
    head, model = ("--head", "x/head.safetensors"), ("--model", "local-dir:x")
    for command in (("eval", "--cache", "features-x"), ("predict", "videos")):
        refused = vidclip(*command, *head, *model, cwd=folder)
        assert refused.returncode == 2
        assert "its prompts read the patch tokens of videos" in refused.stderr
