"""Training and testing on a cache whose list names no splits, and what a head remembers of its training videos."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, vidclip
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.heads import load_head, save_head
from vidclip.pipeline.video import Sampling

LABELS = ("tai chi", "cooking", "diving")


def fine(*arguments: object, cwd: Path):
    done = vidclip(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


def refused(message: str, *arguments: object, cwd: Path) -> None:
    done = vidclip(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "fault of vidclip" not in done.stderr


def noise(rng, per_class=10, split="", views=1, labels=LABELS):
    """Videos that say nothing of their class: whatever is not trained on is guessed."""
    return [
        replace(
            a_record(f"{label}/{split}{i}", rng, labels=(label,), split=split, views=views),
            frames=rng.standard_normal((views, 4, 32)).astype(np.float32),
        )
        for label in labels
        for i in range(per_class)
    ]


@pytest.fixture(scope="module")
def make(tiny_model):
    encoder = load_encoder(tiny_model, device="cpu")

    def made(folder, records, clips=1):
        folder.mkdir(parents=True, exist_ok=True)
        identity = cache_identity(encoder, Sampling(4, clips=clips))
        with CacheWriter(folder / "features", identity) as writer:
            for record in records:
                writer.add(record)
        (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')
        return folder

    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory, make):
    """A cache as folders of videos make it: labels, and no splits."""
    return make(tmp_path_factory.mktemp("plain"), noise(np.random.default_rng(3)))


LEARN = ("--classifier", "linear", "--epochs", 6, "--learning-rate", 0.3)


def table_of(done, name):
    return re.search(rf"^ *{re.escape(name)} +(.+?) *$", done.stdout, re.MULTILINE)[1].split()


def test_fit_keeps_a_fifth_and_eval_tests_the_same_videos(plain, tmp_path):
    head = tmp_path / "h.safetensors"
    done = fine("fit", *LEARN, "--output", head, cwd=plain)
    assert "features has no splits: 20 % of each class's videos, drawn with seed 0, are kept" in done.stderr
    assert "24 videos of 3 classes" in done.stdout
    assert "6 videos of split 20 %, seed 0" in done.stdout
    stored = load_head(head)
    assert stored.settings["test_share"] == 0.2
    assert stored.settings["split_seed"] == 0
    again = fine("eval", "--head", head, cwd=plain)
    assert table_of(again, "linear (h)") == table_of(done, "linear")
    assert table_of(again, "mean") == table_of(done, "mean, untrained")
    assert "24 of the 30 videos are not tested, because the head h.safetensors was trained on" in again.stderr
    (document,) = json.loads(fine("eval", "--head", head, "--json", "-", cwd=plain).stdout)
    assert document["results"][0]["n_videos"] == 6
    assert any("was trained on them" in note for note in document["results"][1]["notes"])
    every = fine("eval", "--head", head, "--split", "all", cwd=plain)
    assert "was trained on 24 of the 30 tested videos" in every.stderr
    drawn = fine("plot", "confusion", "--head", head, "--output", tmp_path / "c.png", cwd=plain)
    assert "of 6 videos" in drawn.stdout
    several = fine("eval", "--head", head, "--protocol", "multi-label", "--json", "-", cwd=plain)
    assert json.loads(several.stdout)[0]["results"][0]["n_videos"] == 6


def test_only_videos_without_a_label_are_left(make, tmp_path, rng):
    unlabeled = [replace(record, id=f"x{record.id}", labels=()) for record in noise(rng, 2)]
    folder = make(tmp_path / "w", [*noise(rng, 3), *unlabeled])
    fine("fit", *LEARN, "--train-split", "all", "--output", "h.safetensors", cwd=folder)
    refused(
        "none of the videos to be tested has a label",
        "eval", "--protocol", "multi-label", "--head", "h.safetensors", cwd=folder,
    )  # fmt: skip


def test_few_shots_of_the_training_side_are_tested_on_the_other(plain, tmp_path):
    head = tmp_path / "h.safetensors"
    done = fine("fit", *LEARN, "--shots", 2, "--output", head, cwd=plain)
    assert "6 videos of 3 classes" in done.stdout
    again = fine("eval", "--head", head, cwd=plain)
    assert table_of(again, "linear (h)") == table_of(done, "linear")


def test_general_draws_what_fit_draws(plain, tmp_path):
    for more in ((), ("--test-share", 0.4, "--seed", 3)):
        head = tmp_path / "h.safetensors"
        done = fine("fit", *LEARN, *more, "--output", head, cwd=plain)
        (document,) = json.loads(
            fine("eval", "--protocol", "general", *LEARN, *more, "--json", "-", cwd=plain).stdout
        )
        (result,) = document["results"]
        assert f"{result['figures']['top1']['mean']:.1f}" == table_of(done, "linear")[0]
        assert result["settings"]["test_share"] == (0.4 if more else 0.2)
        assert result["settings"]["split_seed"] == (3 if more else 0)
        assert result["n_videos"] == (12 if more else 6)
        assert any("are kept for testing (--test-share)" in note for note in result["notes"])


def test_the_readmes_commands_on_folders_of_videos(plain):
    done = fine(
        "eval", "--protocol", "few-shot", "--classifier", "text", "--classifier", "lda", "--epochs", 1, "--seeds", 1,
        cwd=plain,
    )  # fmt: skip
    assert re.search(r"top-1 % +0-shot +1-shot +2-shot +4-shot +8-shot +all", done.stdout)
    assert re.search(r"^ *lda +- +- +\d", done.stdout, re.MULTILINE)
    assert "16 shots are left out: the class 'cooking' has 8 training videos" in done.stderr
    assert "lda is left out at 1 shot: lda is fitted on more videos than classes" in done.stderr
    fine("fit", "--temporal", "transformer", "--epochs", 1, "--output", "h.safetensors", cwd=plain)
    fine("plot", "correlation", "--classifier", "lda", "--output", "c.png", cwd=plain)


def test_lda_of_one_video_a_class_is_refused_before_any_work(plain):
    few = ("eval", "--protocol", "few-shot", "--classifier", "lda")
    refused("lda is fitted on more videos than classes", *few, "--shots", 1, cwd=plain)
    refused("lda is fitted on more videos than classes", *few, "--shots", 0, "--shots", 1, cwd=plain)


def test_all_is_trained_on_and_nothing_tested(make, tmp_path, rng):
    """Labels of noise: a figure above chance would be that of videos seen before."""
    records = [*noise(rng, split="train"), *noise(rng, 5, split="test")]
    folder = make(tmp_path / "w", records)
    done = fine("fit", *LEARN, "--train-split", "all", "--output", "h.safetensors", cwd=folder)
    assert "will not be tested on the split test: the 15 test videos of split 'test' would be" in done.stderr
    assert "%" not in done.stdout.partition("epoch")[2].replace("% of the held-out", "")
    refused(
        "all 15 videos that would be tested were trained on", "eval", "--head", "h.safetensors", cwd=folder
    )
    for protocol in ("general", "few-shot"):
        refused(
            "would be trained on and tested",
            "eval", "--protocol", protocol, "--train-split", "all", cwd=folder,
        )  # fmt: skip


def test_a_share_of_the_training_split_stands_in_for_the_test_split(make, tmp_path, rng):
    folder = make(tmp_path / "w", [*noise(rng, split="train"), *noise(rng, 4, split="val")])
    done = fine("fit", *LEARN, "--test-share", 0.3, "--output", "h.safetensors", cwd=folder)
    assert (
        "Note: 30 % of each class's videos of train, drawn with seed 0, are kept for testing" in done.stderr
    )
    assert "9 videos of split 30 % of train, seed 0" in done.stdout
    refused(
        "--test-share goes with",
        "eval", "--protocol", "general", "--test-share", 0.3, "--split", "val", cwd=folder,
    )  # fmt: skip
    refused("--test-share", "eval", "--test-share", 0.3, cwd=folder)
    refused("--test-share", "fit", "--test-share", 1, cwd=folder)


def test_classes_of_a_single_video_are_trained_on(make, tmp_path, rng):
    folder = make(tmp_path / "w", noise(rng, 1))
    done = fine("fit", *LEARN, "--output", "h.safetensors", cwd=folder)
    assert "no class of features has two videos" in done.stderr
    assert "3 videos of 3 classes" in done.stdout
    refused("no class of features has two videos", "fit", "--test-share", 0.2, cwd=folder)
    refused("no class of features has two videos", "eval", "--protocol", "general", cwd=folder)


def test_a_head_that_does_not_say_what_it_was_trained_on(plain, tmp_path):
    head = tmp_path / "h.safetensors"
    fine("fit", *LEARN, "--output", head, cwd=plain)
    save_head(head, replace(load_head(head), trained_on=None))
    done = fine("eval", "--head", head, cwd=plain)
    assert "the head h.safetensors does not say which videos it was trained on" in done.stderr
    assert "30 videos" in done.stdout


def test_prompts_without_room_for_names_are_refused_before_the_training(plain, tmp_path):
    for length in (18, 19, 20, 1000):
        for command in (("fit", "--output", tmp_path / "h"), ("eval", "--protocol", "general")):
            refused(
                f"--prompt-context {length}: a prompt of {length} tokens leaves no room",
                *command, "--prompt-context", length, cwd=plain,
            )  # fmt: skip


def test_features_that_are_no_numbers_are_named_by_multi_label(plain, tmp_path, make, rng, monkeypatch):
    folder = make(tmp_path / "w", noise(rng, 3))
    whole = FeatureCache.frames

    def damaged(cache, indices=None):
        frames = whole(cache, indices)
        asked = range(len(cache)) if indices is None else indices
        frames[[cache.ids[i] == "tai chi/2" for i in asked], 0, 1, 2] = np.nan
        return frames

    monkeypatch.setattr(FeatureCache, "frames", damaged)
    refused(
        "'tai chi/2' in features hold numbers that are not finite",
        "eval",
        "--protocol",
        "multi-label",
        cwd=folder,
    )


def test_attributes_of_one_view_and_of_all_are_kept_apart(make, tmp_path, rng):
    folder = make(tmp_path / "w", noise(rng, 3, views=3), clips=3)
    (tmp_path / "things.txt").write_text("\n".join(f"thing {i}" for i in range(40)))
    ask = ("eval", "--attributes", tmp_path / "things.txt", "--json", "-")

    def found(*more):
        return json.loads(fine(*ask, *more, cwd=folder).stdout)[0]["results"]

    single, full = found("--single-view"), found()
    assert len(list((folder / "features").glob("attributes-*.h5"))) == 2
    alone = make(tmp_path / "alone", noise(np.random.default_rng(0), 3, views=3), clips=3)
    assert json.loads(fine(*ask, cwd=alone).stdout)[0]["results"][1]["figures"] == full[1]["figures"]
    assert found("--single-view")[1]["figures"] == single[1]["figures"]


def test_figures_of_a_few_videos_are_numbers(make, tmp_path, rng):
    def no_constant(name):
        raise AssertionError(name)

    for per_class, labels in ((1, LABELS[:1]), (1, LABELS), (2, LABELS[:2])):
        folder = make(tmp_path / f"w{per_class}{len(labels)}", noise(rng, per_class, labels=labels))
        for protocol in ("full-classes", "multi-label"):
            done = fine(
                "eval", "--protocol", protocol, "--pool", "mean", "--pool", "max", "--json", "-", cwd=folder
            )
            json.loads(done.stdout, parse_constant=no_constant)
