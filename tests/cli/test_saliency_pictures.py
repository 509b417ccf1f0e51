"""`vidclip saliency`: several videos in one scale, the numbers beside the picture, many frames of a long video."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline import Sampling, extract, load_encoder, read_videos
from vidclip.pipeline.scoring import ConceptSpotter, ConceptSpottingConfig
from vidclip.pipeline.video import decode_video

PROMPT = "This is a video about {}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A cache of three videos by the demo's encoder, four frames each."""
    folder = tmp_path_factory.mktemp("world")
    files = [save_video(folder / "videos" / f"{i}.mp4", frames=60, fps=10, seed=i) for i in range(3)]
    extract(read_videos(files), load_encoder("demo", device="cpu"), folder / "features", Sampling(4))
    (folder / "vidclip.toml").write_text('model = "demo"\ndevice = "cpu"\n')
    return folder


def spotter(*phrases):
    encoder = load_encoder("demo", device="cpu")
    return ConceptSpotter(
        encoder.encode_text(list(phrases), [PROMPT]), ConceptSpottingConfig(temperature=0.01)
    )


def test_the_numbers_beside_the_picture_are_the_caches(folder):
    done = vidclip(
        "saliency", "0.mp4", "a dog", "打拳", "--video", "2.mp4", "--output", "two.svg", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "two.svg: a strip; the numbers are in two.svg.json." in done.stdout
    document = json.loads((folder / "two.svg.json").read_text())
    cache = FeatureCache(folder / "features")
    assert document["features"] == cache.identity.digest
    assert document["encoder_sha256"] == cache.identity.encoder_digest
    assert (document["prompts"], document["temperature"], document["view"]) == ([PROMPT], 0.01, 0)
    assert [each["video"] for each in document["videos"]] == ["0.mp4", "2.mp4"]
    by_hand = spotter("a dog", "打拳")
    for each in document["videos"]:
        index = cache.index(each["video"])
        assert each["path"] == cache.videos[index].path
        assert each["frame_indices"] == cache.frame_indices([index])[0, 0].tolist()
        assert each["seconds"] == pytest.approx(cache.timestamps([index])[0, 0].tolist())
        frames = cache.frames([index])[:, 0]
        assert [own["phrase"] for own in each["phrases"]] == ["a dog", "打拳"]
        np.testing.assert_allclose(
            [own["saliency"] for own in each["phrases"]], by_hand.saliency(frames)[0], rtol=1e-5
        )
        assert [own["score"] for own in each["phrases"]] == pytest.approx(by_hand.scores(frames)[0].tolist())
    shown = (folder / "two.svg").read_text()
    assert {"0.mp4", "2.mp4", "打拳"} <= set(re.findall(r">([^<>]+)</text>", shown))
    # The bars of the terminal share one scale too.
    rows = re.findall(r"([\d.]+) %  (█*)$", done.stdout, re.MULTILINE)
    longest = max(float(share) for share, _ in rows)
    assert all(abs(len(bar) - 40 * float(share) / longest) <= 0.6 for share, bar in rows)
    assert len(rows) == 16


def test_json_may_stand_elsewhere(folder):
    done = vidclip("saliency", "0.mp4", "a dog", "--output", "s.pdf", "--json", "-", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["videos"][0]["video"] == "0.mp4"
    assert (folder / "s.pdf").read_bytes().startswith(b"%PDF-")
    assert not (folder / "s.pdf.json").exists()


def test_many_frames_are_read_anew_and_drawn_as_a_timeline(folder):
    done = vidclip("saliency", "1.mp4", "a dog", "--frames", "50", "--output", "long.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "long.png: a timeline" in done.stdout
    assert "the 10 highest of 50 frames" in done.stdout
    with Image.open(folder / "long.png") as picture:
        assert picture.width > picture.height > 300
    (own,) = json.loads((folder / "long.png.json").read_text())["videos"]
    cache, encoder = FeatureCache(folder / "features"), load_encoder("demo", device="cpu")
    from vidclip.pipeline.video import ClipSpec

    spec = ClipSpec(Sampling(50, position="middle"), ClipSpec.from_identity(cache.identity).preprocess)
    decoded = decode_video(cache.videos[1].path, spec)
    assert own["frame_indices"] == decoded.frame_indices[0].tolist()
    import torch

    frames = encoder.encode_frames(torch.from_numpy(decoded.pixels[0])).numpy()
    expected = spotter("a dog").saliency(frames[None])[0]
    np.testing.assert_allclose([own["phrases"][0]["saliency"]], expected, rtol=0.02, atol=1e-4)
    short = vidclip("saliency", "1.mp4", "a dog", "--frames", "100", "--json", "-", cwd=folder)
    (own,) = json.loads(short.stdout)["videos"]
    assert own["frame_indices"] == list(range(60)), "each of its 60 frames once"
    assert sum(own["phrases"][0]["saliency"]) == pytest.approx(1, abs=1e-5)
    strip = vidclip(
        "saliency", "1.mp4", "a dog", "--frames", "50", "--form", "strip", "--output", "s.png", cwd=folder
    )
    assert "s.png: a strip" in strip.stdout


def test_what_cannot_be_drawn_is_said_before_and_nothing_is_left(folder):
    name = vidclip("saliency", "0.mp4", "a dog", "--png", "s.png", cwd=folder)
    assert "--png is called --output now." in name.stderr
    (folder / "taken.png.json").mkdir()
    taken = vidclip("saliency", "0.mp4", "a dog", "--output", "taken.png", cwd=folder)
    assert taken.returncode == 2
    assert "taken.png.json: this is a folder" in taken.stderr
    other = vidclip("saliency", "0.mp4", "a dog", "--video", "7.mp4", cwd=folder)
    assert other.returncode == 2
    assert "'7.mp4' is not in features" in other.stderr
    boxes = vidclip("saliency", "0.mp4", "\U000f0041", "--output", "boxes.png", cwd=folder)
    assert boxes.returncode == 0
    assert (
        "Warning: boxes.png: no font here has \\U000f0041: boxes stand in their places. Install"
        in boxes.stderr
    )
