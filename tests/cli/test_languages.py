"""A second language of the class names, as its user types it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers import a_record, save_text_encoder
from helpers import vidclip as run
from vidclip.cache import CacheWriter
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.heads import load_head
from vidclip.pipeline.video import Sampling

CLASSES = load_lexicon("demo-classes")
PROMPT = "关于{}的视频"
CHINESE = ("--second-text", "demo-zh", "--second-prompt", PROMPT)
OWN_PROMPTS = ("--control-prompt", "bike", "--control-prompt", "text4vis")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Videos whose frames scatter about what the demo's text tower says of their class."""
    folder = tmp_path_factory.mktemp("languages") / "features"
    encoder = load_encoder("demo", device="cpu", precision="fp32")
    texts = encoder.encode_text(CLASSES.phrases, ("This is a video about {}",), words="none").sentence
    rng = np.random.default_rng(5)
    with CacheWriter(folder, cache_identity(encoder, Sampling(4))) as writer:
        for split, count in (("train", 4), ("validation", 3), ("test", 4)):
            for c, label in enumerate(CLASSES.labels):
                for i in range(count):
                    frames = texts[c] + 0.12 * np.linalg.norm(texts[c]) * rng.standard_normal((1, 4, 128))
                    record = a_record(
                        f"{split}/{c}/{i}", rng, frames=4, views=1, labels=(label,), split=split
                    )
                    writer.add(replace(record, frames=frames.astype(np.float32)))
    return folder


def fine(*arguments):
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def results(features, *arguments):
    """The results of `eval`, by the name of the scorer."""
    done = fine("eval", "--cache", features, "--lexicon", "demo-classes", "--json", "-", *arguments)
    (document,) = json.loads(done.stdout)
    return {result["scorer"]: result for result in document["results"]}, document["comparisons"], done.stderr


def top1(result):
    return result["figures"]["top1"]["mean"]


def test_a_gain_stands_beside_its_controls(features):
    found, comparisons, stderr = results(features, *CHINESE, *OWN_PROMPTS, "--control", "prompts", "--control", "permuted",
                                         "--control", "twice")  # fmt: skip
    zh = "demo-classes-zh"
    assert list(found) == ["mean", f"mean, {zh}", f"mean + {zh} (0.5)", "mean + 2 prompts (0.5)",
                           f"mean + {zh} permuted (0.5)", "mean + demo-classes twice (0.5)"]  # fmt: skip
    assert top1(found[f"mean, {zh}"]) > 80
    assert found["mean + demo-classes twice (0.5)"]["figures"] == found["mean"]["figures"]
    by_name = {each["name"]: each for each in comparisons}
    assert by_name[f"mean + {zh} permuted (0.5) - mean"]["high"] < 0
    assert f"mean + {zh} (0.5) - mean + 2 prompts (0.5)" in by_name
    assert "100 % of its classes are nearest to their own sentence" in stderr
    assert found["mean"]["settings"]["second_tower"] == "demo-zh"


def test_weight_one_is_the_first_language_to_the_bit(features):
    found, _, _ = results(features, *CHINESE, "--fusion-weight", 1, "--pool", "mean", "--pool", "vcs",
                                    "--control", "permuted")  # fmt: skip
    for pool in ("mean", "vcs"):
        assert found[f"{pool} + demo-classes-zh (1)"]["figures"] == found[pool]["figures"]
        assert found[f"{pool} + demo-classes-zh (1)"]["repetitions"] == found[pool]["repetitions"]
    assert found["mean"]["figures"] != found["vcs"]["figures"]


def test_the_texts_of_the_second_tower_are_kept_in_the_cache(features):
    results(features, *CHINESE, "--control", "permuted")
    before = {path: path.stat().st_mtime_ns for path in features.glob("text-demo-classes-zh-*.h5")}
    results(features, *CHINESE, "--control", "permuted")
    assert len(before) == 1
    assert {path: path.stat().st_mtime_ns for path in features.glob("text-demo-classes-zh-*.h5")} == before


def test_an_automatic_weight_is_chosen_on_validation_videos(features):
    found, _, _ = results(features, *CHINESE, "--fusion-weight", "auto", "--control", "permuted")
    (fused,) = (name for name in found if name.startswith("mean + demo-classes-zh ("))
    (permuted,) = (name for name in found if name.startswith("mean + demo-classes-zh permuted ("))
    weights = [float(name.rpartition("(")[2].rstrip(")")) for name in (fused, permuted)]
    assert 0 <= weights[0] < weights[1] <= 1  # rows of other classes get less weight than those of their own
    assert weights[1] > 0.7
    refused = run("eval", "--cache", features, "--lexicon", "demo-classes", *CHINESE, "--fusion-weight", "auto",
                  "--validation-split", "test")  # fmt: skip
    assert refused.returncode == 2
    assert "--validation-split test is tested" in refused.stderr
    alone = run("eval", "--cache", features, "--lexicon", "demo-classes", "--split", "validation", *CHINESE,
                "--fusion-weight", "auto")  # fmt: skip
    assert alone.returncode == 2
    assert "Name one with --validation-split" in alone.stderr


def test_few_shot_heads_are_trained_in_both_languages_and_in_each_control(features):
    found, comparisons, _ = results(
        features, "--protocol", "few-shot", "--shots", 2, "--seeds", 1, "--epochs", 1, *CHINESE, *OWN_PROMPTS
    )
    zh = "demo-classes-zh"
    assert list(found) == [
        "text",
        f"text + {zh} (0.5)",
        "text + 2 prompts (0.5)",
        f"text + {zh} permuted (0.5)",
    ]
    assert top1(found[f"text + {zh} permuted (0.5)"]) < top1(found["text"])
    assert any(each["name"] == f"text + {zh} (0.5) - text + 2 prompts (0.5)" for each in comparisons)


def test_a_head_of_two_languages_is_kept_and_used(features, tmp_path):
    head = tmp_path / "head.safetensors"
    fine("fit", "--cache", features, "--lexicon", "demo-classes", "--shots", 2, "--epochs", 1, *CHINESE,
         "--second-loss-weight", 0.5, "--output", head)  # fmt: skip
    stored = load_head(head)
    assert stored.module.config.second == "demo-classes-zh"
    assert stored.settings["second"]["tower"] == "demo-zh"
    assert stored.settings["second"]["prompts"] == [PROMPT]
    assert stored.settings["second_loss_weight"] == 0.5
    found, _, _ = results(features, "--head", head)
    assert top1(found["text + demo-classes-zh (0.5) (head)"]) > 80
    other = run("eval", "--cache", features, "--lexicon", "demo-order", "--split", "all", "--head", head)
    assert other.returncode == 2


def test_a_foreign_tower_is_refused_until_a_map_is_trained(features, tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / "bert").mkdir()
    folder = save_text_encoder(tmp_path / "bert", ["kicking", "a", "ball", "box"])
    arguments = (
        "--second-text",
        folder,
        "--second-lexicon",
        "demo-classes-paraphrase",
        "--control",
        "permuted",
    )
    done = run("eval", "--cache", features, "--lexicon", "demo-classes", *arguments)
    assert done.returncode == 2
    assert "is of another space than the features" in done.stderr
    found, _, stderr = results(
        features, "--protocol", "few-shot", "--shots", 2, "--seeds", 1, "--epochs", 1, *arguments
    )
    assert "a map into it is trained" in stderr
    assert "text + demo-classes-paraphrase (0.5)" in found


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--second-text", ["--second-lexicon", "demo-classes-zh"]),
        ("--second-text", ["--fusion-weight", "0.5"]),
        ("--control paraphrase", [*CHINESE, "--paraphrases", "demo-classes-paraphrase"]),
        ("the control paraphrase needs a lexicon", [*CHINESE, "--control", "paraphrase"]),
        ("is not in the range 0<=x<=1", [*CHINESE, "--fusion-weight", "2"]),
        ("has no class 'kicking a ball' (75 of 75", [*CHINESE, "--second-lexicon", "ucf101-zh"]),
        ("no-such-folder", ["--second-text", "no-such-folder"]),
        ("--pool vcs", [*CHINESE, "--second-words"]),
    ],
)
def test_what_does_not_go_together_is_refused(features, message, arguments):
    done = run("eval", "--cache", features, "--lexicon", "demo-classes", *arguments)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "fault of vidclip" not in done.stderr


def test_a_lexicon_without_a_dictionary_asks_for_one(features, tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("".join(f"{label}\n" for label in CLASSES.labels))
    done = run("eval", "--cache", features, "--lexicon", own, "--second-text", "same")
    assert done.returncode == 2
    assert "There is no lexicon mine-zh" in done.stderr


def test_a_tower_that_does_not_know_the_language_is_said_so(features):
    _, _, stderr = results(features, "--second-text", "same", "--control", "permuted")
    assert "share their embedding" in stderr or "may not know the language" in stderr


def test_info_names_the_tower_of_each_text(features):
    results(features, *CHINESE, *OWN_PROMPTS)
    shown = fine("info", features).stdout.splitlines()
    texts = [line for line in shown if line.startswith("  text ")]
    assert [line for line in texts if line.endswith(", by demo-zh")], texts
    assert [line for line in texts if ", by " not in line], "those of the cache's own encoder"
    found = json.loads(fine("info", features, "--json", "-").stdout)["texts"]
    assert {text["tower"] for text in found} >= {"", "demo-zh"}, "other tests add towers of their own"
