"""`vidclip fit`, `eval` after training and with heads, `predict` and `plot`, as their user types them."""

from __future__ import annotations

import json
import os
import re
import shutil
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import load_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from helpers import a_record, change_file, save_text_encoder, save_video
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.cli.main import main
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.evaluation import lexicon_from_labels
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.heads import load_head, save_head
from vidclip.pipeline.video import Sampling

LABELS = ("Air Drumming", "[b]juggling", "a $x_1$ & <b>", "tai chi", "打太极拳")
TRAIN, TEST = 6, 8


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def vidclip(*arguments: object, cwd: Path, **environment: str) -> Done:
    """Runs the program in this process: torch is imported once for all tests."""
    before = Path.cwd()
    os.chdir(cwd)
    try:
        result = CliRunner().invoke(main, list(map(str, arguments)), env=environment)
    finally:
        os.chdir(before)
    fault = result.exit_code == 1 and result.exc_info and not isinstance(result.exception, SystemExit)
    trace = "".join(traceback.format_exception(*result.exc_info)) if fault else ""
    return Done(result.exit_code, result.stdout, result.stderr + trace)


def fine(*arguments: object, cwd: Path, **environment: str) -> Done:
    done = vidclip(*arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done


def refused(message: str, *arguments: object, cwd: Path) -> None:
    done = vidclip(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of vidclip" not in done.stderr


def some_records(rng, labels=LABELS, *, splits=(("train", TRAIN), ("test", TEST)), frames=4, views=1):
    """Videos that scatter about a direction of their class, the same in every split."""
    centers = rng.standard_normal((len(labels), 32)) * 2
    return [
        replace(
            a_record(f"{split}/{c}/{i}", rng, frames=frames, views=views, labels=(label,), split=split),
            frames=(centers[c] + 1.5 * views * rng.standard_normal((views, frames, 32))).astype(np.float32),
        )
        for split, count in splits
        for c, label in enumerate(labels)
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def make_cache(tiny_model):
    """folder, records -> features/ in it, as the tiny model would have made them, and settings that name the model."""
    encoder = load_encoder(tiny_model, device="cpu")

    def make(folder, records, frames=4, clips=1):
        folder.mkdir(parents=True, exist_ok=True)
        identity = cache_identity(encoder, Sampling(frames, clips=clips))
        with CacheWriter(folder / "features", identity) as writer:
            for record in records:
                writer.add(record)
        (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')
        return folder

    return make


@pytest.fixture(scope="session")
def world(tmp_path_factory, make_cache) -> Path:
    return make_cache(tmp_path_factory.mktemp("world"), some_records(np.random.default_rng(5)))


@pytest.fixture(scope="session")
def heads(tmp_path_factory, world) -> Path:
    """Heads trained once for several tests."""
    folder = tmp_path_factory.mktemp("heads")
    for name, more in {
        "text": (),
        "linear": ("--classifier", "linear"),
        "lda": ("--classifier", "lda", "--held-out", 0),
        "transformer": ("--temporal", "transformer"),
        "prompt": ("--prompt-context", 2, "--learning-rate", 0.3),
    }.items():
        fine("fit", "--epochs", 2, *more, "--output", folder / f"{name}.safetensors", cwd=world)
    return folder


def u(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def split_of(world, split):
    """(frames [n, T, D] float32, label of each) of a split."""
    cache = FeatureCache(world / "features")
    rows = [row for row, name in enumerate(cache.splits) if name == split]
    return cache.frames(rows)[:, 0].astype(np.float32), [cache.labels[row][0] for row in rows]


def scores_by_hand(head: Path, frames):
    """Of a head without a temporal module, from what its file says."""
    tensors = load_file(head)
    videos = frames.mean(axis=1)
    if "head.projection.matrix" in tensors:
        videos = videos + videos @ tensors["head.projection.matrix"]
    return u(videos) @ u(tensors["head.rows"]).T


def top1_by_hand(head: Path, frames, labels):
    best = scores_by_hand(head, frames).argmax(axis=1)
    classes = load_head(head).classes
    return 100 * np.mean([classes[c] == label for c, label in zip(best, labels, strict=True)])


def top1_of(document, scorer=0, **settings):
    found = [
        r
        for r in document["results"]
        if all(r["settings"].get(key) == value for key, value in settings.items())
    ]
    return found[scorer]["figures"]["top1"]["mean"]


# --- fit


@pytest.mark.parametrize("name", ["text", "linear", "lda"])
def test_what_fit_prints_eval_finds_again_and_so_does_a_calculation_by_hand(world, tmp_path, name):
    head = tmp_path / "h.safetensors"
    more = ("--learning-rate", 0.03, "--plot", "l.svg") if name == "text" else ("--plot", "l.svg")
    done = fine("fit", "--epochs", 6, "--classifier", name, *more, "--output", head, cwd=world)
    assert f"{name} head, 30 videos of 5 classes; epoch" in done.stdout
    assert "Next: vidclip eval --head" in done.stdout
    printed = re.search(rf"^ *{name} +(.+?) *$", done.stdout, re.MULTILINE)[1].split()
    again = fine("eval", "--head", head, "--json", tmp_path / "e.json", cwd=world)
    assert re.search(rf"^ *{name} \(h\) +(.+?) *$", again.stdout, re.MULTILINE)[1].split() == printed
    zero_shot = re.search(r"^ *mean, untrained +(.+?) *$", done.stdout, re.MULTILINE)[1].split()
    assert re.search(r"^ *mean +(.+?) *$", again.stdout, re.MULTILINE)[1].split() == zero_shot
    (document,) = json.loads((tmp_path / "e.json").read_text())
    assert top1_of(document, 1) == pytest.approx(top1_by_hand(head, *split_of(world, "test")))
    assert top1_of(document, 1) > 50, "chance is 20"
    assert "dashed: epoch" in (world / "l.svg").read_text()


def test_one_seed_is_one_file_and_another_seed_another(world, tmp_path):
    def made(name, *more):
        fine("fit", "--epochs", 2, "--temporal", "mit", *more, "--output", tmp_path / name, cwd=world)
        return (tmp_path / name).read_bytes()

    first = made("a")
    torch.rand(3)  # the state of the process says nothing
    assert made("b") == first
    assert made("c", "--seed", 1) != first
    assert made("d", "--shots", 2) != first


@pytest.mark.parametrize(
    ("flags", "design"),
    [
        (["--temporal", "conv"], {"temporal": "conv", "projection": False}),
        (["--temporal", "transformer", "--pool", "vcs"], {"temporal": "transformer", "pool": "vcs"}),
        (["--pool", "vcs", "--temperature", "0.1"], {"pool": "vcs", "spotting_temperature": 0.1}),
        (["--classifier", "random"], {"classifier": "random", "projection": True}),
        (["--classifier", "orthogonal"], {"classifier": "orthogonal"}),
        (["--classifier", "linear", "--projection"], {"classifier": "linear", "projection": True}),
        (["--prompt-context", "2"], {"prompt_context": 2, "projection": False}),
        (["--shots", "2", "--held-out", "0.5"], {"classifier": "text"}),
        (["--loss", "paper"], {}),
        (["--loss", "released", "--batch-size", "7"], {}),
    ],
)  # fmt: skip
def test_every_design_is_trained_stored_and_used(world, tmp_path, flags, design):
    head = tmp_path / "h.safetensors"
    done = fine("fit", "--epochs", 2, *flags, "--output", head, cwd=world)
    stored = load_head(head)
    assert {key: stored.module.structure[key] for key in design} == design
    assert stored.classes == tuple(sorted(LABELS))
    assert stored.settings["n_train"] == (10 if "--shots" in flags else 30)
    assert ("held-out" in done.stdout) == (stored.settings["held_out"] > 0)
    if "--loss" in flags:
        assert stored.settings["loss"] == flags[1]
    assert (stored.context is not None) == ("--prompt-context" in flags)
    rows = load_file(head)["head.rows"]
    if "orthogonal" in flags:
        np.testing.assert_allclose(rows @ rows.T, np.eye(5), atol=1e-5)
    used = fine("eval", "--head", head, cwd=world)
    assert f"{stored.module.config.name} (h)" in used.stdout


def test_lda_is_scikit_learns(world, heads):
    frames, labels = split_of(world, "train")
    expected = LinearDiscriminantAnalysis().fit(u(frames.mean(axis=1)), labels).coef_
    np.testing.assert_allclose(u(load_file(heads / "lda.safetensors")["head.rows"]), u(expected), atol=1e-3)


def test_shots_zero_and_odd_numbers_are_refused_before_any_work(world, tmp_path):
    for flags, message in [
        (("--shots", 0), "there must be at least 1"),
        (("--shots", "-1"), "is not a number of videos, nor `all`"),
        (("--shots", "few"), "is not a number of videos, nor `all`"),
        (("--seed", -1), "--seed"),
        (("--learning-rate", "nan"), "nan is not a finite number"),
        (("--learning-rate", 1e20), "1e+20 is not in the range 0<x<=1"),
        (("--weight-decay", "nan"), "nan is not a finite number"),
        (("--held-out", "nan"), "nan is not a finite number"),
        (("--held-out", 1), "--held-out"),
        (
            ("--classifier", "lda", "--prompt-context", 2),
            "--prompt-context goes with --head video and --classifier text alone",
        ),
        (
            ("--classifier", "linear", "--text-encoder", tmp_path),
            "--text-encoder goes with --head video and --classifier text alone",
        ),
        (("--text-encoder", tmp_path), "lacks config.json"),
        (("--text-encoder", tmp_path, "--pool", "vcs"), "goes without --pool vcs"),
        (("--prompt", "nothing"), "needs one {}"),
        (("--plot", "x.txt"), "must end in .png, .svg or .pdf"),
        (("--plot", "nowhere/x.png"), "nowhere is not a folder"),
        (("--no-projection",), "nothing of this head would be trained"),
        (("--train-split", "trian"), "has test, train, not 'trian'"),
        (("--head", "attributes", "--shots", 2), "--shots goes with --head video"),
        (("--head", "attributes", "--prompt-context", 2), "--prompt-context goes with --head video"),
    ]:
        refused(message, "fit", *flags, "--output", tmp_path / "h", cwd=world)
    refused("is not a folder", "fit", "--output", tmp_path / "no" / "h", cwd=world)
    assert not (tmp_path / "h").exists()


def test_classes_without_enough_videos(make_cache, tmp_path, rng):
    def world_of(name, counts):
        records = [
            r
            for label, count in counts.items()
            for r in some_records(rng, (label,), splits=(("train", count),))
        ]
        return make_cache(
            tmp_path / name, [replace(r, id=f"{i}", path=f"/{i}") for i, r in enumerate(records)]
        )

    output = ("--epochs", 1, "--output", tmp_path / "h")
    few = world_of("few", {"one": 1, "two": 2, "three": 4})
    refused("the class 'one' has 1 training video, 2 are asked for", "fit", "--shots", 2, *output, cwd=few)
    refused("1 other class has too few as well", "fit", "--shots", 3, *output, cwd=few)
    refused("more videos than classes", "fit", "--classifier", "lda", "--shots", 1, *output, cwd=few)
    refused("all of one class", "fit", *output, cwd=world_of("single", {"one": 4}))
    (tmp_path / "more.txt").write_text("one\ntwo\nthree\nfour\n")
    more = ("--lexicon", tmp_path / "more.txt", *output)
    refused("the class 'four' has no training video", "fit", "--shots", 1, *more, cwd=few)
    refused(
        "'four' among them, and lda is computed from videos", "fit", "--classifier", "lda", *more, cwd=few
    )
    assert not (tmp_path / "h").exists()
    fine("fit", *more, cwd=few)
    assert len(load_head(tmp_path / "h").classes) == 4


def test_numbers_that_are_not_finite(world, make_cache, tmp_path, rng):
    broken = some_records(rng, splits=(("train", 2),))
    broken[3].frames[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        make_cache(tmp_path / "refused", broken)
    shutil.copytree(world / "features", tmp_path / "features")
    cache = FeatureCache(tmp_path / "features")
    row = cache.splits.index("train")
    change_file(
        cache.shards[0].path,
        lambda columns, _: columns["frames"][columns["id"].index(cache.ids[row]), 0, 2].fill(np.nan),
    )
    output = ("--epochs", 1, "--output", tmp_path / "h")
    message = f"the features of the video {cache.ids[row]!r} in features hold numbers that are not finite"
    for flags in ((), ("--classifier", "lda"), ("--temporal", "conv")):
        refused(message, "fit", *flags, *output, cwd=tmp_path)
    refused(message, "eval", "--protocol", "general", cwd=tmp_path)
    refused(
        message, "eval", "--protocol", "few-shot", "--split", "train", "--train-split", "test",
        "--shots", 2, cwd=tmp_path,
    )  # fmt: skip
    refused(message, "plot", "correlation", "--classifier", "lda", cwd=tmp_path)
    refused(message, "plot", "confusion", "--split", "train", cwd=tmp_path)
    assert not (tmp_path / "h").exists()


def test_labels_that_differ_in_case_alone(world, tmp_path):
    lexicon = tmp_path / "mine.txt"
    lexicon.write_text("\n".join(label.upper().replace(" ", "_") for label in reversed(LABELS)))
    head = tmp_path / "h.safetensors"
    fine("fit", "--lexicon", lexicon, "--classifier", "linear", "--output", head, cwd=world)
    assert load_head(head).classes[4] == "AIR_DRUMMING"
    figures = [
        fine("eval", "--head", head, *more, "--json", "-", cwd=world).stdout
        for more in ((), ("--lexicon", lexicon))
    ]
    own, theirs = (top1_of(json.loads(text)[0], 1) for text in figures)
    assert own == theirs > 60


def test_a_test_split_of_other_labels_does_not_cost_the_training(make_cache, tmp_path, rng):
    records = some_records(rng, ("one", "two"), splits=(("train", 4),))
    records += [
        replace(r, id=f"x{r.id}") for r in some_records(rng, ("three",), splits=(("test", 2),))
    ]  # fmt: skip
    folder = make_cache(tmp_path / "w", records)
    (folder / "two.txt").write_text("one\ntwo\n")
    done = fine("fit", "--lexicon", "two.txt", "--epochs", 1, cwd=folder)
    assert "will not be tested on the split test: 'three' is not in the lexicon two" in done.stderr
    assert (folder / "head.safetensors").exists()


def test_without_the_encoder_a_head_that_reads_no_names_is_still_trained(write_cache, rng, tmp_path):
    records = [
        a_record(f"{i}", rng, labels=("ab"[i % 2],), split=("train", "test")[i % 4 // 2]) for i in range(16)
    ]
    cache = write_cache(records)
    done = fine("fit", "--cache", cache, "--classifier", "linear", "--epochs", 1, cwd=tmp_path)
    assert "there is no zero-shot row to compare with" in done.stderr
    assert re.search(r"^ *linear +\d", done.stdout, re.MULTILINE)
    refused("is needed", "fit", "--cache", cache, "--epochs", 1, cwd=tmp_path)


def test_a_head_may_begin_as_released(world, tmp_path):
    fit = ("fit", "--temporal", "transformer", "--epochs", 1, "--learning-rate", 1e-9)
    spread = {}
    for start in ("quiet", "released"):
        head = tmp_path / start
        done = vidclip(*fit, "--temporal-start", start, "--output", head, cwd=world)
        assert done.returncode == 0, done.stderr
        stored = load_head(head)
        assert stored.settings["temporal_start"] == start
        assert "temporal_start" not in stored.module.structure, "it has no part in what was trained"
        spread[start] = stored.module.temporal.blocks[0].mlp_out.weight.std().item()
    assert spread == {"quiet": pytest.approx(0, abs=1e-6), "released": pytest.approx(0.02, rel=0.1)}
    done = vidclip(*fit, "--output", tmp_path / "usual", cwd=world)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "usual").read_bytes() == (tmp_path / "quiet").read_bytes()
    asked = ("eval", "--protocol", "general", "--epochs", 1, "--temporal", "mean", "--temporal", "mit")
    done = vidclip(*asked, "--temporal-start", "released", "--json", tmp_path / "r.json", cwd=world)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "r.json").read_text())[0]["results"]
    assert {result["settings"]["fit_temporal_start"] for result in results} == {"released"}


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    pytest.importorskip("transformers")
    words = ["Air", "Drumming", "tai", "chi", "juggling", "b", "a", "x_1", "video", "about"]
    return save_text_encoder(tmp_path_factory.mktemp("bert"), words)


def test_the_names_may_come_from_another_text_encoder(world, bert_folder, tmp_path):
    head = tmp_path / "h.safetensors"
    fine("fit", "--text-encoder", bert_folder, "--epochs", 8, "--output", head, cwd=world)
    tensors = load_file(head)
    assert tensors["head.rows"].shape == (5, 24)
    frames, labels = split_of(world, "test")
    scores = u(frames.mean(axis=1) @ tensors["head.projection.matrix"]) @ u(tensors["head.rows"]).T
    right = 100 * np.mean(np.array(sorted(LABELS))[scores.argmax(axis=1)] == labels)
    (document,) = json.loads(fine("eval", "--head", head, "--json", "-", cwd=world).stdout)
    assert top1_of(document, 1) == pytest.approx(right)
    (tmp_path / "other.txt").write_text("\n".join(["dancing", *LABELS]))
    refused(
        "the classes of this classifier are fixed",
        "eval", "--head", head, "--lexicon", tmp_path / "other.txt", cwd=world,
    )  # fmt: skip
    few = ("eval", "--protocol", "few-shot", "--shots", 1, "--seeds", 1, "--epochs", 1)
    assert "1-shot" in fine(*few, "--text-encoder", bert_folder, cwd=world).stdout
    refused(
        "reads one prompt",
        *few, "--text-encoder", bert_folder, "--prompt", "x-clip", "--prompt", "none", cwd=world,
    )  # fmt: skip


# --- eval after training


def test_few_shot_and_its_document(world, tmp_path):
    done = fine(
        "eval", "--protocol", "few-shot", "--shots", 0, "--shots", 2, "--shots", "all", "--seeds", 2,
        "--epochs", 2, "--classifier", "text", "--classifier", "lda", "--json", tmp_path / "f.json", cwd=world,
    )  # fmt: skip
    (document,) = json.loads((tmp_path / "f.json").read_text())
    assert set(document) == {"protocol", "results", "comparisons"}
    assert document["protocol"] == "few-shot"
    places = [(r["scorer"], r["settings"]["shots"]) for r in document["results"]]
    assert places == [("text", 0), ("text", 2), ("text", "all"), ("lda", 2), ("lda", "all")]
    assert [c["shots"] for c in document["comparisons"]] == [2, "all"]
    for result in document["results"]:
        runs = [run["top1"] for run in result["repetitions"]]
        assert len(runs) == (1 if result["settings"]["shots"] == 0 else 2)
        figure = result["figures"]["top1"]
        assert figure["mean"] == pytest.approx(np.mean(runs))
        assert figure["spread"] == (pytest.approx(np.std(runs)) if len(runs) > 1 else None)
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert result["settings"]["n_train"] == {0: 0, 2: 10, "all": 30}[result["settings"]["shots"]]
    assert re.search(r"top-1 % +0-shot +2-shot +all", done.stdout)
    assert re.search(r"^ *lda +- +\d", done.stdout, re.MULTILINE)
    (zero,) = json.loads(fine("eval", "--pool", "mean", "--json", "-", cwd=world).stdout)
    assert top1_of(document, shots=0) == top1_of(zero)


def test_general_learns_from_all_and_is_what_fit_makes(world, tmp_path):
    more = ("--epochs", 3, "--classifier", "linear")
    (document,) = json.loads(
        fine("eval", "--protocol", "general", *more, "--json", "-", cwd=world).stdout
    )  # fmt: skip
    assert document["results"][0]["settings"]["n_train"] == 30
    head = tmp_path / "h.safetensors"
    fine("fit", *more, "--output", head, cwd=world)
    assert top1_of(document) == pytest.approx(top1_by_hand(head, *split_of(world, "test")))


def test_few_shot_trains_what_fit_trains_with_as_many_iterations(world, tmp_path):
    more = ("--epochs", 5, "--classifier", "linear", "--shots", 2)
    (document,) = json.loads(
        fine("eval", "--protocol", "few-shot", *more, "--seeds", 2, "--json", "-", cwd=world).stdout
    )
    found = [run["top1"] for run in document["results"][0]["repetitions"]]
    for seed in range(2):
        fine("fit", *more, "--seed", seed, "--output", tmp_path / "h", cwd=world)
        assert found[seed] == pytest.approx(top1_by_hand(tmp_path / "h", *split_of(world, "test")))


def test_shots_may_stand_in_the_settings_file(world, tmp_path, tiny_model):
    (tmp_path / "vidclip.toml").write_text(
        f'cache = "{world / "features"}"\nmodel = "{tiny_model}"\n[eval]\nprotocol = "few-shot"\nshots = [1, 2, "all"]\nepochs = 1\nseeds = 1\n'
    )
    assert re.search(r"top-1 % +1-shot +2-shot +all", fine("eval", cwd=tmp_path).stdout)
    (tmp_path / "vidclip.toml").write_text("[eval]\nshots = [-1]\n")
    refused("'-1' is not a number of videos", "eval", cwd=tmp_path)


def test_settings_of_a_file_reach_the_commands_of_plot(world, tmp_path):
    (tmp_path / "vidclip.toml").write_text(
        f'cache = "{world / "features"}"\n[plot]\noutput = "drawn.svg"\nfirst = 2\n'
    )
    assert "2 classes" in fine("plot", "correlation", "--classifier", "random", cwd=tmp_path).stdout
    assert (tmp_path / "drawn.svg").is_file()
    (tmp_path / "vidclip.toml").write_text("[plot]\nouput = 'x.png'\n")
    refused("has no such option. Did you mean output?", "plot", "confusion", cwd=tmp_path)


def test_what_was_learned_from_is_not_tested(world):
    for protocol in ("few-shot", "general"):
        refused(
            "would be trained on and tested",
            "eval", "--protocol", protocol, "--split", "train", cwd=world,
        )  # fmt: skip
        refused("--pool max cannot be trained", "eval", "--protocol", protocol, "--pool", "max", cwd=world)
    refused(
        "6 training videos, 7 are asked for",
        "eval", "--protocol", "few-shot", "--shots", 7, cwd=world,
    )  # fmt: skip


# --- eval --head


def test_a_fixed_classifier_knows_its_names_in_any_order(world, heads, tmp_path):
    shuffled = tmp_path / "shuffled.txt"
    shuffled.write_text("\n".join(LABELS[i].lower() for i in (3, 0, 4, 2, 1)))
    for name in ("linear", "lda", "text", "transformer", "prompt"):
        head = heads / f"{name}.safetensors"
        own, other = (
            json.loads(fine("eval", "--head", head, *more, "--json", "-", cwd=world).stdout)[0]
            for more in ((), ("--lexicon", shuffled))
        )
        assert top1_of(own, 1) == top1_of(other, 1)
        assert own["results"][1]["figures"]["mean_class"] == other["results"][1]["figures"]["mean_class"]


def test_several_views_are_averaged_alike_by_fit_eval_and_plot_at_the_heads_temperature(
    make_cache, tmp_path, rng
):
    folder = make_cache(tmp_path / "w", some_records(rng, views=3), clips=3)
    head = tmp_path / "h.safetensors"
    done = fine("fit", "--classifier", "linear", "--epochs", 2, "--output", head, cwd=folder)
    printed = re.search(r"^ *linear +(.+?) *$", done.stdout, re.MULTILINE)[1].split()
    again = fine("eval", "--head", head, cwd=folder)
    assert re.search(r"^ *linear \(h\) +(.+?) *$", again.stdout, re.MULTILINE)[1].split() == printed
    cache, stored = FeatureCache(folder / "features"), load_head(head)
    rows = [row for row, split in enumerate(cache.splits) if split == "test"]
    frames = cache.frames(rows).astype(np.float32)
    cosines = np.stack([scores_by_hand(head, frames[:, v]) for v in range(3)], axis=1).astype(float)
    found = set()
    for temperature in (0.01, 1.0):
        save_head(head, replace(stored, settings={**stored.settings, "temperature": temperature}))
        odds = np.exp((cosines - cosines.max(axis=-1, keepdims=True)) / temperature)
        best = (odds / odds.sum(axis=-1, keepdims=True)).mean(axis=1).argmax(axis=1)
        right = 100 * np.mean(
            [stored.classes[c] == cache.labels[row][0] for c, row in zip(best, rows, strict=True)]
        )
        (document,) = json.loads(fine("eval", "--head", head, "--json", "-", cwd=folder).stdout)
        assert top1_of(document, 1) == pytest.approx(right)
        drawn = fine("plot", "confusion", "--head", head, "--output", tmp_path / "c.png", cwd=folder)
        assert f"top-1 {right:.1f} %" in drawn.stdout
        found.add(right)
    assert len(found) == 2, "the temperature tells"


def test_other_names_are_for_heads_that_read_them(world, heads, tmp_path):
    longer = tmp_path / "longer.txt"
    longer.write_text("\n".join(["riding a horse", *LABELS]))
    for name in ("linear", "lda"):
        refused(
            "'riding a horse' is none of them (1 such): the classes of this classifier are fixed",
            "eval", "--head", heads / f"{name}.safetensors", "--lexicon", longer, cwd=world,
        )  # fmt: skip
    (document,) = json.loads(
        fine(
            "eval", "--head", heads / "text.safetensors", "--lexicon", longer, "--json", "-", cwd=world
        ).stdout
    )
    # The same projection under the sentences of six classes.
    encoder = load_encoder(load_head(heads / "text.safetensors").identity.model, device="cpu")
    sentence = encoder.encode_text(["riding a horse", *LABELS], ("This is a video about {}",)).sentence
    frames, labels = split_of(world, "test")
    mean = frames.mean(axis=1)
    videos = mean + mean @ load_file(heads / "text.safetensors")["head.projection.matrix"]
    best = (u(videos) @ u(sentence).T).argmax(axis=1)
    assert top1_of(document, 1) == pytest.approx(
        100 * np.mean([LABELS[c - 1] == label if c else False for c, label in zip(best, labels, strict=True)])
    )


def test_names_that_say_the_same_are_embedded_to_the_same(world, heads, tmp_path):
    """Unknown labels over known phrases: every row is made again, and must be what training made of it."""
    own = lexicon_from_labels(FeatureCache(world / "features"))
    renamed = tmp_path / "renamed.txt"
    renamed.write_text("".join(f"class {i}\t{phrase}\n" for i, phrase in enumerate(own.phrases)))
    for name in ("text", "transformer", "prompt"):
        head = ("--head", heads / f"{name}.safetensors", "--json", "-")
        expected, found = (
            json.loads(fine("eval", *head, *more, cwd=world).stdout)[0]["results"][1]["figures"]
            for more in ((), ("--lexicon", renamed))
        )
        assert found == expected


def test_features_that_a_head_cannot_read(world, heads, make_cache, other_tiny_model, tmp_path, rng):
    longer = make_cache(tmp_path / "longer", some_records(rng, frames=6), frames=6)
    for command in ("eval", ("plot", "confusion")):
        command = (command,) if isinstance(command, str) else command
        head = ("--head", heads / "transformer.safetensors")
        refused("positions for 4 frames, but features has 6", *command, *head, cwd=longer)
    fine("eval", "--head", heads / "text.safetensors", cwd=longer)
    other = load_encoder(other_tiny_model, device="cpu")
    (tmp_path / "other").mkdir()
    with CacheWriter(tmp_path / "other" / "features", cache_identity(other, Sampling(4))) as writer:
        for record in some_records(rng):
            writer.add(record)
    for command in (("eval",), ("plot", "confusion"), ("plot", "correlation", "--classifier", "random")):
        for name in ("text", "linear"):
            refused(
                "trained on another encoder",
                *command, "--head", heads / f"{name}.safetensors", cwd=tmp_path / "other",
            )  # fmt: skip


def test_heads_of_one_name_are_told_apart(world, heads, tmp_path):
    shutil.copy(heads / "text.safetensors", tmp_path / "text.safetensors")
    both = ("--head", heads / "text.safetensors", "--head", tmp_path / "text.safetensors")
    refused("give the heads other file names", "eval", *both, cwd=world)
    refused(
        "give the heads other file names",
        "plot", "correlation", "--classifier", "text", *both, "--output", tmp_path / "c.png", cwd=world,
    )  # fmt: skip


# --- predict


@pytest.fixture(scope="session")
def filmed(tmp_path_factory, tiny_model) -> Path:
    """Real videos, extracted, and heads trained on them."""
    folder = tmp_path_factory.mktemp("filmed")
    rows = []
    for c, label in enumerate(("tai chi", "drumming", "a $x$ & <b>")):
        for i in range(3):
            path = folder / "videos" / f"{'abc'[c]}" / f"{i}.mp4"
            save_video(path, frames=12, seed=10 * c + i)
            rows.append(f"{path},{label},train")
    (folder / "list.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')
    fine(
        "extract",
        "list.csv",
        "--model",
        tiny_model,
        "--frames",
        4,
        "--device",
        "cpu",
        "--workers",
        1,
        cwd=folder,
    )
    for name in ("text", "linear"):
        fine(
            "fit", "--classifier", name, "--epochs", 3, "--held-out", 0, "--output", f"{name}.safetensors", cwd=folder
        )  # fmt: skip
    return folder


def test_predict_says_what_the_cache_says(filmed, tmp_path):
    videos = [filmed / "videos" / name for name in ("a/0.mp4", "b/0.mp4", "c/2.mp4")]
    odd = tmp_path / "[b]öde $1 & 'x'.mp4"
    shutil.copy(filmed / "videos" / "a" / "1.mp4", odd)
    cache = FeatureCache(filmed / "features")
    for name in ("text", "linear"):
        head = filmed / f"{name}.safetensors"
        done = fine(
            "predict", *videos, odd, "--head", head, "--workers", 1, "--top", 9, "--json", tmp_path / "p.json", cwd=filmed
        )  # fmt: skip
        document = json.loads((tmp_path / "p.json").read_text())
        assert document["failures"] == []
        found = {Path(p["path"]): p["classes"] for p in document["predictions"]}
        assert set(found) == {*videos, odd}, "two are called 0.mp4"
        assert "[b]öde $1 & 'x'.mp4" in done.stdout
        for path, classes in found.items():
            source = filmed / "videos" / "a" / "1.mp4" if path == odd else path
            row = next(i for i, video in enumerate(cache.videos) if video.path == str(source))
            logits = (
                scores_by_hand(head, cache.frames([row])[:, 0].astype(np.float32))[0].astype(float) / 0.01
            )
            expected = np.exp(logits - logits.max())
            expected /= expected.sum()
            assert len(classes) == 3, "of a head of three classes"
            own = {c["label"]: c["probability"] for c in classes}
            np.testing.assert_allclose(
                [own[label] for label in load_head(head).classes], expected, rtol=0.02, atol=1e-6
            )
            given = [c["probability"] for c in classes]
            assert given == sorted(given, reverse=True)
            assert sum(given) == pytest.approx(1)


def test_predict_names_what_it_cannot_read_and_goes_on(filmed, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good, head = filmed / "videos" / "a" / "0.mp4", filmed / "text.safetensors"
    arguments = ("--head", head, "--workers", 1)
    done = vidclip("predict", tmp_path / "broken.mp4", good, *arguments, "--json", "-", cwd=filmed)
    assert done.returncode == 1
    assert "broken.mp4: could not be read: " in done.stderr
    document = json.loads(done.stdout)
    assert [Path(p["path"]) for p in document["predictions"]] == [good]
    assert [Path(f["path"]) for f in document["failures"]] == [tmp_path / "broken.mp4"]
    alone = vidclip("predict", tmp_path / "broken.mp4", *arguments, cwd=filmed)
    assert alone.returncode == 1
    assert "broken.mp4: could not be read: " in alone.stderr
    refused("There is no file or folder", "predict", "none.mp4", *arguments, cwd=filmed)


def test_predict_over_other_names(filmed, tmp_path):
    (tmp_path / "names.txt").write_text("running\n<i>jumping</i>\ntai chi\nsitting\n")
    arguments = (
        "predict",
        filmed / "videos" / "a" / "0.mp4",
        "--workers",
        1,
        "--lexicon",
        tmp_path / "names.txt",
    )
    done = fine(*arguments, "--head", filmed / "text.safetensors", "--json", "-", cwd=filmed)
    (prediction,) = json.loads(done.stdout)["predictions"]
    assert {c["label"] for c in prediction["classes"]} == {"running", "<i>jumping</i>", "tai chi", "sitting"}
    refused("are fixed", *arguments, "--head", filmed / "linear.safetensors", cwd=filmed)


def test_predict_is_for_video_heads(filmed, tmp_path):
    video = filmed / "videos" / "a" / "0.mp4"
    fine(
        "fit", "--head", "attributes", "--attributes", "hmdb51", "--epochs", 1, "--output", tmp_path / "h", cwd=filmed
    )  # fmt: skip
    refused("attributes head", "predict", video, "--head", tmp_path / "h", cwd=filmed)
    refused("`vidclip fit` makes such a file", "predict", video, "--head", tmp_path / "none", cwd=filmed)
    refused("is no head of vidclip", "predict", video, "--head", video, cwd=filmed)


# --- plot


def test_plot_correlation(world, heads, tmp_path):
    done = fine(
        "plot",
        "correlation",
        "--head",
        heads / "linear.safetensors",
        "--output",
        tmp_path / "c.svg",
        cwd=world,
    )
    assert "5 classes, random, orthogonal, lda, text, linear (linear)." in done.stdout
    assert done.stderr == ""
    text = (tmp_path / "c.svg").read_text()
    for name in ("Air Drumming", "[b]juggling", "a $x_1$ &amp; &lt;b&gt;", "打太极拳"):
        assert name in text
    first = text.encode()
    fine(
        "plot",
        "correlation",
        "--head",
        heads / "linear.safetensors",
        "--output",
        tmp_path / "c.svg",
        cwd=world,
    )
    assert (tmp_path / "c.svg").read_bytes() == first
    done = fine(
        "plot", "correlation", "--first", 2, "--classifier", "text", "--output", tmp_path / "c.png", cwd=world
    )
    assert "2 classes, text." in done.stdout
    refused("--first", "plot", "correlation", "--first", 1, cwd=world)
    refused("needs one {}", "plot", "correlation", "--prompt", "nothing", cwd=world)
    refused("must end in .png, .svg or .pdf", "plot", "correlation", "--output", "x.txt", cwd=world)
    (tmp_path / "one.txt").write_text("tai chi\n")
    refused("there is only one", "plot", "correlation", "--lexicon", tmp_path / "one.txt", cwd=world)


def test_boxes_for_what_no_font_has_are_told_in_a_line(world, tmp_path):
    (tmp_path / "names.txt").write_text("tai chi\n\U000f1234\U000f1235\n")
    done = fine(
        "plot", "correlation", "--classifier", "random", "--lexicon", tmp_path / "names.txt",
        "--output", tmp_path / "c.png", cwd=world,
    )  # fmt: skip
    assert len(done.stderr.splitlines()) == 1
    assert "c.png: no font here has" in done.stderr
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"


def test_plot_confusion_of_a_head_and_without(world, heads, tmp_path):
    head = heads / "linear.safetensors"
    done = fine("plot", "confusion", "--head", head, "--output", tmp_path / "c.png", cwd=world)
    frames, labels = split_of(world, "test")
    right = top1_by_hand(head, frames, labels)
    assert f"linear: top-1 {right:.1f} % of 40 videos." in done.stdout
    names = load_head(head).classes
    best = scores_by_hand(head, frames).argmax(axis=1)
    for true, n, taken in re.findall(
        r"^  (.+): (\d+) of 8 videos taken for (.+)$", done.stdout, re.MULTILINE
    ):
        assert int(n) == sum(
            label == true and names[c] == taken for c, label in zip(best, labels, strict=True)
        )
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
    zero = fine("plot", "confusion", "--output", tmp_path / "z.svg", cwd=world)
    (document,) = json.loads(fine("eval", "--json", "-", cwd=world).stdout)
    assert f"mean, zero-shot: top-1 {top1_of(document):.1f} % of 40 videos." in zero.stdout
    assert "打太极拳" in (tmp_path / "z.svg").read_text()


def test_plot_few_shot_of_several_files(world, tmp_path):
    for name, classifier in (("a", "text"), ("b", "text"), ("c", "linear")):
        (tmp_path / name).mkdir()
        fine(
            "eval", "--protocol", "few-shot", "--shots", 1, "--shots", "all", "--seeds", 1, "--epochs", 1,
            "--classifier", classifier, "--json", tmp_path / name / f"{name}.json", cwd=world,
        )  # fmt: skip
    shutil.copy(tmp_path / "a" / "a.json", tmp_path / "b" / "a.json")
    one = fine("plot", "few-shot", "a/a.json", "a/a.json", "--output", "o.svg", cwd=tmp_path)
    assert "o.svg: 1 head." in one.stdout
    fine("plot", "few-shot", "a/a.json", "b/b.json", "c/c.json", "--output", "s.svg", cwd=tmp_path)
    text = (tmp_path / "s.svg").read_text()
    assert all(f">{name}<" in text for name in ("text (a)", "text (b)", "linear", "chance"))
    assert "3 heads" in fine(
        "plot", "few-shot", "a/a.json", "b/a.json", "c/c.json", "--output", "t.svg", cwd=tmp_path
    ).stdout  # fmt: skip
    assert ">text (b/a.json)<" in (tmp_path / "t.svg").read_text()


def test_plot_few_shot_of_other_files(world, tmp_path):
    fine("eval", "--json", tmp_path / "zero.json", cwd=world)
    for name, text, message in [
        ("zero.json", None, "no results of the protocol few-shot"),
        ("none.json", None, "No such file"),
        ("a.json", "{}", "no results of the protocol few-shot"),
        ("b.json", "[1, 2, 3]", "no result of `vidclip eval --json FILE`"),
        ("c.json", "not JSON", "is no JSON"),
        ("d.json", "null", "no result of `vidclip eval --json FILE`"),
        ("e.json", '[{"protocol": "few-shot", "results": [{}]}]', "'scorer' is missing"),
        ("f.json", '[{"protocol": "few-shot", "results": [3]}]', "no result of `vidclip eval --json FILE`"),
    ]:
        if text is not None:
            (tmp_path / name).write_text(text)
        refused(message, "plot", "few-shot", tmp_path / name, "--output", tmp_path / "f.png", cwd=tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    refused("is no JSON", "plot", "few-shot", "bytes.json", cwd=tmp_path)
    refused("/dev/full cannot be read: it is a device", "plot", "few-shot", "/dev/full", cwd=tmp_path)
    refused("is not a folder", "plot", "few-shot", "zero.json", "--output", "no/f.png", cwd=tmp_path)
    assert not list(tmp_path.glob("*.png"))


def test_predict_says_which_classes_of_the_head_are_one(filmed, tmp_path):
    stored = load_head(filmed / "linear.safetensors")
    video, head = filmed / "videos" / "a" / "0.mp4", tmp_path / "h.safetensors"
    assert "share their embedding" not in fine(
        "predict", video, "--head", filmed / "linear.safetensors", "--workers", 1, cwd=filmed
    ).stderr  # fmt: skip
    with torch.no_grad():
        stored.module.class_embeddings[2] = 3 * stored.module.class_embeddings[0]
    save_head(head, stored)
    done = fine("predict", video, "--head", head, "--workers", 1, cwd=filmed)
    assert "2 of 3 classes of the head share their embedding with another" in done.stderr
    assert f"({stored.classes[0]!r} and {stored.classes[2]!r})" in done.stderr
