"""`--as-released`: all forms of a paper's released code at once, kept with what they shaped."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from helpers import a_record, save_video, vidclip
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.encoders import EncoderLoader, load_encoder
from vidclip.pipeline.evaluation import RELEASED_FORMS
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.heads import head_over, load_head
from vidclip.pipeline.video import Sampling

LABELS = ("dig", "swim", "bake a cake", "tai chi")


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def world(tmp_path_factory, encoder, tiny_model):
    """features/ of 40 videos of two views, in train and test; views of different lengths."""
    folder, rng = tmp_path_factory.mktemp("released"), np.random.default_rng(3)
    with CacheWriter(folder / "features", cache_identity(encoder, Sampling(3, clips=2))) as writer:
        centers = rng.standard_normal((4, 32))
        for i in range(40):
            frames = centers[i % 4] + 1.5 * rng.standard_normal((2, 3, 32))
            frames[1] *= 4
            record = a_record(
                f"{i:02}", rng, views=2, frames=3, labels=(LABELS[i % 4],), split=("train", "test")[i // 20]
            )
            writer.add(replace(record, frames=frames.astype(np.float32)))
    (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')
    return folder


def fine(*arguments, cwd):
    done = vidclip(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def evaluated(world, tmp_path, *arguments):
    done = fine("eval", *arguments, "--json", tmp_path / "r.json", cwd=world)
    return done.stdout, json.loads((tmp_path / "r.json").read_text())[0]["results"]


def top1(scores, labels):
    return 100 * np.mean(np.argmax(scores, axis=1) == labels)


def videos_of_test(world):
    """(frames [n, V, T, D] float64, class of each) of the split test, classes in alphabetical order."""
    cache = FeatureCache(world / "features")
    rows = [row for row, split in enumerate(cache.splits) if split == "test"]
    names = sorted(LABELS)
    return cache.frames(rows).astype(np.float64), [names.index(cache.labels[row][0]) for row in rows]


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def spotted(view, texts):
    """Released BIKE's product for one view [T, D], over all positions of the text tower."""
    found = []
    for c in range(len(texts.sentence)):
        shares = np.zeros(len(view))
        words = texts.words[texts.offsets[c] : texts.offsets[c + 1]].astype(np.float64)
        for word in u(words):
            powers = np.exp((u(view) @ word - 1) / 0.01)
            shares += powers / powers.sum() / len(words)
        found.append((shares @ u(view)) @ u(texts.sentence[c].astype(np.float64)))
    return np.array(found)


def unscaled(views):
    return sum(np.exp(view) / np.exp(view).sum() for view in views) / len(views)


def test_bike_all_at_once(world, encoder, tmp_path):
    names = sorted(LABELS)
    frames, labels = videos_of_test(world)
    texts = encoder.encode_text(names, ["This is a video about {}"], words="all")
    assert texts.offsets[1] == 20, "all positions of the context"
    expected = [unscaled([spotted(view, texts) for view in video]) for video in frames]
    out, (vcs,) = evaluated(world, tmp_path, "--pool", "vcs", "--as-released", "bike")
    assert vcs["figures"]["top1"]["mean"] == pytest.approx(top1(expected, labels))
    line = "As released by BIKE: --prompt bike --words all --no-renormalize --view-average unscaled."
    assert line in out
    assert vcs["settings"]["as_released"]["set"] == {
        "prompt": ["bike"], "words": "all", "renormalize": False, "view_average": "unscaled",
    }  # fmt: skip
    # The line names options that do the same.
    typed = re.search(r"BIKE: (.*)\.", out)[1].split()
    _, (same,) = evaluated(world, tmp_path, "--pool", "vcs", *typed)
    assert same["figures"] == vcs["figures"]
    assert same["settings"]["as_released"] is None

    out, (kept,) = evaluated(
        world, tmp_path, "--pool", "vcs", "--as-released", "bike", "--words", "name", "--prompt", "bike"
    )
    assert "--no-renormalize --view-average unscaled; given instead: --words name." in out
    assert kept["settings"]["words"] == "name"
    assert kept["settings"]["as_released"]["given"] == {"words": "name"}


def test_fusion_and_map_of_bike(world, encoder, tmp_path):
    (tmp_path / "things.txt").write_text("\n".join(f"thing {i}" for i in range(7)))
    asked = ("--pool", "mean", "--attributes", tmp_path / "things.txt", "--top", 3, "--as-released", "bike")
    out, (mean, attributes, fused) = evaluated(world, tmp_path, *asked)
    assert fused["scorer"] == "mean + attributes (0.7)"
    assert "--fusion 0.7 --fusion-form released" in out
    frames, labels = videos_of_test(world)
    names = sorted(LABELS)
    sentence = u(encoder.encode_text(names, ["This is a video about {}"]).sentence.astype(np.float64))
    video = [unscaled([u(view.mean(axis=0)) @ sentence.T for view in views]) for views in frames]
    assert mean["figures"]["top1"]["mean"] == pytest.approx(top1(video, labels))
    fine(
        "attributes",
        "--lexicon",
        tmp_path / "things.txt",
        "--top",
        3,
        "--json",
        tmp_path / "a.json",
        cwd=world,
    )
    found = json.loads((tmp_path / "a.json").read_text())
    texts = [f"This is a video about {','.join(found[f'{i:02}']['classname_topk'])}" for i in range(20, 40)]
    read = u(encoder.encode_text(texts, ["{}"]).sentence.astype(np.float64)) @ sentence.T
    expected = [0.7 * v + 0.3 * unscaled([a]) for v, a in zip(video, read, strict=True)]
    assert fused["figures"]["top1"]["mean"] == pytest.approx(top1(expected, labels))
    assert attributes["figures"]["top1"]["mean"] == pytest.approx(top1(read, labels))

    out, (row,) = evaluated(world, tmp_path, "--protocol", "multi-label", "--as-released", "bike")
    assert "mAP as the released script for ActivityNet computes it" in out
    assert "--map-convention released" in out
    assert row["settings"]["map_convention"] == "released-activitynet"


def test_text4vis_and_x_clip_average_views_as_they_do(world, encoder, tmp_path):
    frames, labels = videos_of_test(world)
    names = sorted(LABELS)
    out, (row,) = evaluated(world, tmp_path, "--as-released", "text4vis")
    assert "As released by Text4Vis: --prompt text4vis --view-average features." in out
    sentence = u(encoder.encode_text(names, ["a video of a person {}."]).sentence.astype(np.float64))
    pooled = [sum(view.mean(axis=0) for view in views) / 2 for views in frames]
    assert row["figures"]["top1"]["mean"] == pytest.approx(top1(u(np.array(pooled)) @ sentence.T, labels))

    out, (row,) = evaluated(world, tmp_path, "--as-released", "x-clip")
    assert "As released by X-CLIP: --prompt none --view-average probabilities." in out
    sentence = u(encoder.encode_text(names, ["{}"]).sentence.astype(np.float64))
    expected = [unscaled([100 * u(v.mean(axis=0)) @ sentence.T for v in views]) for views in frames]
    assert row["figures"]["top1"]["mean"] == pytest.approx(top1(expected, labels))


def test_a_head_keeps_the_forms_it_was_trained_in(world, tiny_model, tmp_path):
    head = tmp_path / "bike.safetensors"
    done = fine(
        "fit", "--pool", "vcs", "--temporal", "transformer", "--epochs", 1, "--as-released", "bike",
        "--output", head, cwd=world,
    )  # fmt: skip
    assert (
        "As released by BIKE: --prompt bike --words all --no-renormalize --view-average unscaled --loss released"
        in done.stdout
    )
    stored = load_head(head)
    config = stored.module.config
    assert (config.words, config.renormalize, config.view_average) == ("all", False, "unscaled")
    assert stored.settings["as_released"]["paper"] == "bike"
    assert stored.settings["loss"] == "released"
    assert len(stored.module.owners) == 4 * 20, "all positions of four classes"
    _, results = evaluated(world, tmp_path, "--head", head)
    tested_by_fit = re.search(r"transformer.*?(\d+\.\d) \[", done.stdout.split("split test")[1])[1]
    assert f"{results[1]['figures']['top1']['mean']:.1f}" == tested_by_fit
    # Over other names it asks for all positions again.
    (tmp_path / "other.txt").write_text("dig\nswim\nbake a cake\ntai chi\njump\n")
    fine("eval", "--head", head, "--lexicon", tmp_path / "other.txt", cwd=world)
    load = EncoderLoader("cpu", [(tiny_model, "")])
    other = head_over(stored, load_lexicon(str(tmp_path / "other.txt")), load)
    assert len(other.owners) == 5 * 20

    fine(
        "fit", "--temporal", "transformer", "--temporal-heads", 4, "--epochs", 1, "--output", head, cwd=world
    )
    assert load_head(head).module.config.heads == 4
    assert load_head(head).module.temporal.blocks[0].heads == 4
    refused = vidclip("fit", "--temporal", "transformer", "--temporal-heads", 5, cwd=world)
    assert refused.returncode == 2
    assert "32 dimensions" in refused.stderr
    assert "give a number that divides them" in refused.stderr


def test_heads_of_the_temporal_transformer_follow_the_text_tower(world, tmp_path, write_cache, rng):
    """RN50: 1024 dimensions, a text tower of width 512: 8 heads, not 16."""
    from helpers import an_identity

    rn50 = {"embed_dim": 1024, "text_cfg": {"width": 512}}
    assert RELEASED_FORMS["bike"].temporal_heads(rn50) == 8
    assert RELEASED_FORMS["text4vis"].temporal_heads(rn50) == 8
    assert RELEASED_FORMS["x-clip"].temporal_heads(rn50) is None
    smaller = {"embed_dim": 256, "text_cfg": {"width": 128}}
    identity = an_identity()
    identity = replace(identity, encoder={**identity.encoder, "architecture": smaller})
    records = []
    for i in range(12):
        record = a_record(f"{i:02}", rng, labels=("ab"[i % 2],), split="train")
        records.append(replace(record, frames=rng.standard_normal((1, 4, 256)).astype(np.float32)))
    folder = write_cache(records, identity=identity).parent
    for paper, heads in (("text4vis", 2), (None, None)):
        done = fine(
            *("fit", "--classifier", "random", "--temporal", "transformer", "--epochs", 1, "--output", "h"),
            *(("--as-released", paper) if paper else ()),
            cwd=folder,
        )
        module = load_head(folder / "h").module
        assert module.config.heads == heads
        assert module.temporal.blocks[0].heads == (heads or 4)
        assert ("--temporal-heads 2" in done.stdout) == bool(heads)


def test_few_shot_in_the_released_forms(world, tmp_path):
    out, results = evaluated(
        world, tmp_path, "--protocol", "few-shot", "--pool", "vcs", "--shots", 0, "--shots", 1, "--seeds", 1,
        "--epochs", 1, "--as-released", "bike",
    )  # fmt: skip
    assert "--words all --no-renormalize" in out
    for result in results:
        assert result["settings"]["words"] == "all"
        assert result["settings"]["renormalize"] is False
        assert result["settings"]["view_average"] == "unscaled"
    _, (zero_shot,) = evaluated(world, tmp_path, "--pool", "vcs", "--as-released", "bike")
    assert results[0]["figures"]["top1"]["mean"] == zero_shot["figures"]["top1"]["mean"], "untrained"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--as-released", "bike", "--as-released", "text4vis"),
            "--pool released-bike --pool released-text4vis",
        ),
        (("--pool", "vcs", "--as-released", "text4vis"), "no features to average over views"),
        (("--pool", "vcs", "--view-average", "features"), "no features to average over views"),
        (("--attributes", "hmdb51", "--attributes-prompt", "x-clip"), "and here one is read"),
        (("--protocol", "few-shot", "--pool", "released-bike"), "cannot be trained"),
    ],
)
def test_what_cannot_be_is_said(world, arguments, message):
    done = vidclip("eval", *arguments, cwd=world)
    assert done.returncode == 2
    assert message in done.stderr


def test_rows_of_released_halves(world, tmp_path):
    out, results = evaluated(
        world,
        tmp_path,
        "--protocol",
        "half-classes",
        "--pool",
        "released-bike",
        "--pool",
        "released-text4vis",
    )
    assert [result["scorer"] for result in results] == ["released-bike", "released-text4vis"]
    assert "released-text4vis - released-bike: " in out


# --- extract


def test_extract_in_the_forms_of_a_paper(tmp_path, tiny_model):
    for name in ("0", "1"):
        save_video(tmp_path / f"videos/{name}.mp4", frames=12, seed=int(name))
    asked = ("extract", "videos", "--model", tiny_model, "--device", "cpu", "--frames", 3, "--workers", 1)
    for paper, more, line, sampling in (
        ("bike", ("--crops", 3), "BIKE: --position start --crop-positions width --resize 32.", ("start", 32)),
        ("text4vis", (), "Text4Vis: --position start --resize 32.", ("start", 32)),
        ("x-clip", (), "X-CLIP: --position middle --resize 36.", ("middle", 36)),
        ("x-clip", ("--crops", 3), "--position middle --crop-positions longer-side --resize 32.", ("middle", 32)),
        (
            "bike", ("--resize", 40, "--position", "middle"),
            "BIKE: nothing; given instead: --position middle --resize 40.", ("middle", 40),
        ),
    ):  # fmt: skip
        cache = f"{paper}{len(more)}"
        done = fine(*asked, *more, "--as-released", paper, "--cache", cache, cwd=tmp_path)
        assert line in done.stdout
        stored = FeatureCache(tmp_path / cache).identity.sampling
        assert (stored["position"], stored["resize"]) == sampling
        assert stored.get("crop_positions", "longer-side") == (
            "width" if "positions width" in line else "longer-side"
        )
        again = fine(*asked, *more, "--as-released", paper, "--cache", cache, cwd=tmp_path)
        assert "2 done before" in again.stdout
        assert line in again.stdout


@pytest.mark.parametrize(
    ("size", "crops", "bike", "x_clip"),
    [(224, 1, 256, 256), (224, 3, 256, 224), (336, 1, 336, 384), (336, 3, 336, 336)],
)
def test_short_sides_of_released_code(size, crops, bike, x_clip):
    """BIKE test.py: 256 at 224, else the size of the input; X-CLIP build.py: int(256/224 S), with three crops S."""
    assert RELEASED_FORMS["bike"].short_side(size, crops) == bike
    assert RELEASED_FORMS["text4vis"].short_side(size, crops) == bike
    assert RELEASED_FORMS["x-clip"].short_side(size, crops) == x_clip


# --- attributes that BIKE publishes


def test_a_protocol_that_cannot_be_done_leaves_the_ones_before_it(world, tmp_path):
    """They share one pass over the features: one that lacks attributes must not take the others with it."""
    shutil.copytree(world, tmp_path / "w")
    splits = ("--set-split", "1*=test1", "--set-split", "2*=test2", "--set-split", "3*=test3")
    fine("label", *splits, cwd=tmp_path / "w")
    entries = {f"{i:02}": {"classname_topk": ["a", "b", "c"]} for i in range(10, 30)}
    (tmp_path / "w" / "some.json").write_text(json.dumps(entries))
    arguments = ("--attributes", "some.json", "--top", 3, "--split", "test1", "--json", "r.json")
    done = vidclip(
        "eval", *arguments, "--protocol", "full-classes", "--protocol", "splits", cwd=tmp_path / "w"
    )
    assert done.returncode == 2
    assert "10 of the 30 videos that are read now have no attributes" in done.stderr
    assert "full-classes: 10 videos" in done.stdout
    (document,) = json.loads((tmp_path / "w" / "r.json").read_text())
    alone = fine("eval", *arguments, cwd=tmp_path / "w")
    assert "full-classes: 10 videos" in alone.stdout
    assert json.loads((tmp_path / "w" / "r.json").read_text()) == [document]


def test_attributes_from_a_file_are_used_by_eval_and_fit(world, encoder, tmp_path):
    """Written by one command, named as in BIKE's lists, read by the others."""
    (tmp_path / "things.txt").write_text("\n".join(f"thing {i}" for i in range(7)))
    asked = ("--top", 3, "--attributes-prompt", "none")
    fine(
        "attributes", "--lexicon", tmp_path / "things.txt", *asked, "--json", tmp_path / "own.json", cwd=world
    )
    own = json.loads((tmp_path / "own.json").read_text())
    published = {f"frames/{id}": entry for id, entry in own.items() if id != "00"}
    file = tmp_path / "published.json"
    file.write_text(json.dumps({**published, "frames/elsewhere": {"classname_topk": ["a", "b", "c"]}}))
    done = fine("attributes", "--from", file, *asked, cwd=world)
    assert "3 attributes of 39 videos from" in done.stdout
    assert "1 video of features without attributes" in done.stderr
    assert ": 00." in done.stderr
    assert "1 video of the files not in features" in done.stderr

    _, retrieved = evaluated(world, tmp_path, "--attributes", tmp_path / "things.txt", *asked)
    _, given = evaluated(world, tmp_path, "--attributes", file, *asked)
    assert [row["figures"] for row in given] == [row["figures"] for row in retrieved]
    assert given[0]["settings"]["attributes_prompt"] == "{}"
    _, labels = videos_of_test(world)
    names = sorted(LABELS)
    sentence = u(encoder.encode_text(names, ["This is a video about {}"]).sentence.astype(np.float64))
    texts = [",".join(own[f"{i:02}"]["classname_topk"]) for i in range(20, 40)]
    read = u(encoder.encode_text(texts, ["{}"]).sentence.astype(np.float64)) @ sentence.T
    assert given[1]["figures"]["top1"]["mean"] == pytest.approx(top1(read, labels))

    head = tmp_path / "attributes.safetensors"
    fit = ("fit", "--head", "attributes", "--attributes", file, *asked, "--epochs", 1, "--output", head)
    refused = vidclip(*fit, cwd=world)
    assert refused.returncode == 2
    assert "1 of the 20 videos that are read now have no attributes" in refused.stderr
    file.write_text(json.dumps({**published, "frames/00": own["00"]}))
    fine(*fit, cwd=world)
    assert load_head(head).settings["attributes"]["prompt"] == "{}"
    _, rows = evaluated(world, tmp_path, "--head", head)
    assert rows[1]["scorer"].startswith("attributes, trained")

    for arguments, message in (
        (("--attributes", file, "--attributes", "hmdb51"), "not both at once"),
        (("--attributes", file, "--retriever", "features"), "--retriever has no part"),
        (("--attributes", "missing.json"), "cannot be read"),
    ):
        done = vidclip("eval", *arguments, cwd=world)
        assert done.returncode == 2
        assert message in done.stderr
