"""`vidclip eval` of several caches: the figures of each, side by side, and their differences on common videos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, vidclip, write_noisy_world
from vidclip.cache import CacheWriter, FeatureCache, update_labels
from vidclip.cache.labels import ListFacts
from vidclip.lexicons import load_lexicon

NAMES = load_lexicon("demo-classes").labels[:6]
FEW = ["--protocol", "few-shot", "--classifier", "text", "--shots", "0", "--shots", "1", "--seeds", "1", "--epochs", "1"]  # fmt: skip
PROTOCOLS = ["--protocol", "full-classes", "--protocol", "half-classes", "--protocol", "multi-label", *FEW]


def videos(first: int, last: int) -> list[tuple[str, str, str]]:
    return [
        (f"{name}/{i}.mp4", name, "train" if i % 2 else "test") for name in NAMES for i in range(first, last)
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """`a` and `b` share 6 videos a class of 8 each; `c` has the videos of `a`; `t/a` is of another encoder."""
    folder = tmp_path_factory.mktemp("world")
    write_noisy_world(folder / "a", videos(0, 8), noise=4.0, seed=1)
    write_noisy_world(folder / "b", videos(2, 10), noise=2.5, seed=2, views=2)
    write_noisy_world(folder / "c", videos(0, 8), noise=3.0, seed=3)
    (folder / "vidclip.toml").write_text('model = "demo"\n')
    return folder


def evaluate(world: Path, *arguments: str, **environment: str) -> list[dict]:
    done = vidclip("eval", *arguments, "--json", "-", cwd=world, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_figures_of_each_are_those_of_its_own_evaluation(world):
    given = [*PROTOCOLS, "--pool", "mean", "--pool", "vcs"]
    together = evaluate(world, "--cache", "a", "--cache", "b", "--cache", "c", *given)
    assert [each["protocol"] for each in together] == [
        "full-classes",
        "half-classes",
        "multi-label",
        "few-shot",
    ]
    for name in "abc":
        for document, own in zip(together, evaluate(world, "--cache", name, *given), strict=True):
            results = [each for each in document["results"] if each["settings"]["cache"] == name]
            assert [each.pop("scorer") for each in results] == [
                f"{name}: {each.pop('scorer')}" for each in own["results"]
            ]
            assert results == own["results"], "to the bit"
            comparisons = [dict(each) for each in document["comparisons"] if each["cache"] == name]
            assert [each for each in comparisons if each.pop("cache")] == own["comparisons"]


def test_differences_are_those_of_compare_on_the_common_videos(world):
    given = ["--protocol", "full-classes", "--protocol", "half-classes", "--pool", "mean", "--pool", "max"]
    for name in "ab":
        evaluate(world, "--cache", name, *given, "--predictions", f"{name}.csv")
    rows = (world / "a.csv").read_text().splitlines()
    together = evaluate(world, "--cache", "a", "--cache", "b", *given)
    for document in together:  # `compare` pairs by protocol, trial and id
        for name in "ab":
            rows = (world / f"{name}.csv").read_text().splitlines()
            own = [rows[0], *(row for row in rows if row.startswith(f'"{document["protocol"]}"'))]
            (world / f"{name}-one.csv").write_text("\n".join(own) + "\n")
        done = vidclip("compare", "a-one.csv", "b-one.csv", "--json", "-", cwd=world)
        pairs = {each["first"]: each["comparison"] for each in json.loads(done.stdout)}
        assert [each["scorer"] for each in document["between_caches"]] == ["mean", "max"]
        for each in document["between_caches"]:
            theirs = pairs[each["scorer"]]
            for key in ("difference", "low", "high", "p", "metric"):
                assert each["comparison"][key] == theirs[key]
            assert each["comparison"]["name"] == f"{each['scorer']}: b - a"
            assert each["n"] == 18, "3 test videos of 6 classes"
        assert any("24 videos and b 24, 18 of them in common" in note for note in document["notes"])


def test_maps_are_paired_where_the_videos_are_the_same(world):
    (document,) = evaluate(world, "--cache", "a", "--cache", "b", "--cache", "c", "--protocol", "multi-label")
    (pair,) = document["between_caches"]
    assert (pair["first"], pair["second"], pair["n"]) == ("a", "c", 24)
    maps = {each["scorer"]: each["figures"]["map"]["mean"] for each in document["results"]}
    assert pair["comparison"]["difference"] == pytest.approx(maps["c: mean"] - maps["a: mean"])
    assert "mAP of a and b is not paired" in " ".join(document["notes"])


def test_what_is_printed(world):
    done = vidclip(
        "eval", "--cache", "a", "--cache", "b", "--per-class", "--predictions", "both.csv", cwd=world
    )
    assert done.returncode == 0, done.stderr
    (document,) = evaluate(world, "--cache", "a", "--cache", "b")
    for result in document["results"]:
        (line,) = [
            line for line in done.stdout.splitlines() if line.strip().startswith(result["scorer"] + " ")
        ]
        assert f"{result['figures']['top1']['mean']:.1f} [" in line
    pair = document["between_caches"][0]["comparison"]
    shown = f"mean: b - a: {pair['difference']:+.1f} [{pair['low']:+.1f}, {pair['high']:+.1f}]"
    assert shown in done.stdout
    assert "(18 common videos)" in done.stdout
    assert "a: demo, 4 frames; 24 videos." in done.stdout
    assert "b: demo, 4 frames, 2 x 1 views; 24 videos." in done.stdout
    assert "full-classes, b: mean: each class" in done.stdout
    assert "Warning: a tests 24 videos and b 24, 18 of them in common" in done.stderr
    both = vidclip("compare", "both.csv", "both.csv", "--scorer", "a: mean", "--scorer", "b: mean", cwd=world)
    assert f"{pair['difference']:+.1f} [{pair['low']:+.1f}, {pair['high']:+.1f}]" in both.stdout


def test_several_in_the_environment_and_the_file(world, tmp_path):
    alone = evaluate(world, VIDCLIP_CACHE="c")
    assert {each["settings"]["cache"] for each in alone[0]["results"]} == {"c"}
    assert "between_caches" not in alone[0]
    both = evaluate(world, VIDCLIP_EVAL_CACHE='["a", "c"]')
    assert both[0]["caches"] == ["a", "c"]
    (tmp_path / "vidclip.toml").write_text(f'model = "demo"\n[eval]\ncache = ["{world}/a", "{world}/c"]\n')
    assert evaluate(tmp_path)[0]["results"][1]["scorer"] == "c: mean"


def test_encoders_side_by_side(world, tiny_model, other_tiny_model):
    """Each cache is scored by the texts of its own encoder; folders of one name are told apart."""
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    rng = np.random.default_rng(0)
    for place, model in (("t", tiny_model), ("u", other_tiny_model)):
        encoder = load_encoder(model, device="cpu")
        (world / place).mkdir(exist_ok=True)
        with CacheWriter(world / place / "a", cache_identity(encoder, Sampling(4))) as writer:
            for id, label, split in videos(0, 8):
                frames = rng.standard_normal((1, 4, encoder.dimension)).astype(np.float32)
                writer.add(replace(a_record(id, rng, labels=(label,), split=split), frames=frames))
    caches = [argument for cache in ("t/a", "u/a") for argument in ("--cache", cache)]
    both = ["--model", tiny_model, "--model", other_tiny_model]
    (document,) = evaluate(world, *caches, *both)
    assert document["caches"] == ["t/a", "u/a"]
    for cache, model, result in zip(
        ("t/a", "u/a"), (tiny_model, other_tiny_model), document["results"], strict=True
    ):
        (alone,) = evaluate(world, "--cache", cache, "--model", model)
        assert result["figures"] == alone["results"][0]["figures"]
    one = vidclip("eval", *caches, "--prompt", "a {} clip", "--model", tiny_model, cwd=world)
    assert one.returncode == 2, "no option is heeded for one cache alone"
    assert "the features were made with" in one.stderr or "--model" in one.stderr


def relabeled(world: Path, name: str, facts: dict[str, ListFacts]) -> None:
    write_noisy_world(world / name, videos(0, 8), noise=3.0, seed=3)
    update_labels(world / name, facts, 48)


def test_what_does_not_go_together_is_refused(world):
    one = f"{NAMES[0]}/0.mp4"
    write_noisy_world(world / "fewer", [each for each in videos(0, 8) if each[1] != NAMES[0]])
    write_noisy_world(world / "val", [(id, name, "val") for id, name, _ in videos(0, 8)])
    relabeled(world, "other", {one: ListFacts((NAMES[1],), "test")})
    for second, given, message in (
        ("fewer", [], f"a and fewer have other classes: {NAMES[0]!r} is a label of a, and not of fewer."),
        ("val", [], "would be tested on other splits, 'test' and 'val': say which with --split"),
        ("other", [], f"1 videos have other labels in other than in a; the first is {one!r}"),
        ("./a", [], "--cache a is given twice"),
    ):
        done = vidclip("eval", "--cache", "a", "--cache", second, *given, cwd=world)
        assert done.returncode == 2
        assert message in done.stderr, done.stderr
        assert done.stdout == ""
    (world / "six.txt").write_text("\n".join(NAMES))
    done = vidclip("eval", "--cache", "a", "--cache", "val", "--split", "all", cwd=world)
    assert done.returncode == 0, done.stderr
    done = vidclip(
        "eval", "--cache", "a", "--cache", "fewer", "--lexicon", "six.txt", "--protocol", "full-classes",
        "--protocol", "half-classes", cwd=world,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(20 common videos)" in done.stdout
    assert "half-classes of a and fewer are not paired" in done.stderr


def test_a_head_is_for_all_caches_or_refused(world, tiny_model):
    fitted = vidclip("fit", "--cache", "a", "--epochs", "1", "--output", "h.safetensors", cwd=world)
    assert fitted.returncode == 0, fitted.stderr
    (document,) = evaluate(world, "--cache", "a", "--cache", "c", "--head", "h.safetensors")
    assert [each["scorer"] for each in document["results"]] == [
        "a: mean",
        "a: text (h)",
        "c: mean",
        "c: text (h)",
    ]
    if (world / "t" / "a").exists():
        done = vidclip(
            "eval", "--cache", "a", "--cache", "t/a", "--head", "h.safetensors", "--model", "demo", "--model",
            tiny_model, cwd=world,
        )  # fmt: skip
        assert done.returncode == 2
        assert "t/a" in done.stderr


def test_no_common_video_is_said(world):
    write_noisy_world(world / "apart", videos(8, 16))
    done = vidclip("eval", "--cache", "a", "--cache", "apart", cwd=world)
    assert done.returncode == 0, done.stderr
    assert "a and apart test no video in common" in done.stderr
    assert "apart - a" not in done.stdout
    assert len(FeatureCache(world / "apart")) == 48
