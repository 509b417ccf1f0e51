"""A folder, file or hub page that a cache or head names is loaded only where the user names it too."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, save_video, vidclip
from vidclip.cache import CacheWriter, Identity, text_path
from vidclip.cli.messages import quoted
from vidclip.lexicons import Lexicon, load_lexicon
from vidclip.pipeline.encoders import (
    EncoderError,
    EncoderLoader,
    ModelNotNamed,
    brings_own_files,
    collapse_note,
    load_encoder,
    text_embeddings,
)
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.video import Sampling


def make_cache(folder: Path, encoder_model: str, **changes: str) -> Path:
    """Six videos of two labels, as the model would have made them."""
    rng = np.random.default_rng(0)
    encoder = load_encoder(encoder_model, device="cpu")
    identity = cache_identity(encoder, Sampling(2))
    with CacheWriter(folder / "features", replace(identity, **changes)) as writer:
        for i in range(6):
            record = a_record(
                f"{i}.mp4", rng, labels=(("juggling", "tai chi")[i % 2],), split=("train", "test")[i // 4]
            )
            frames = rng.standard_normal((1, 2, encoder.dimension)).astype(np.float32)
            indices = np.arange(2)[None]
            writer.add(replace(record, frames=frames, frame_indices=indices, timestamps=indices / 2))
    return folder


@pytest.fixture
def folder(tmp_path, tiny_model):
    return make_cache(tmp_path / "work", tiny_model)


def asked_for(stderr: str) -> list[str]:
    """The arguments of the command line that the message ends with."""
    return shlex.split(stderr.partition(" Run: vidclip ")[2])


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "--prompt", "a video of {}"],
        ["attributes", "--lexicon", "demo"],
        ["fit", "--epochs", "1"],
        ["saliency", "0.mp4", "it's juggling"],
        ["plot", "confusion"],
    ],
)
def test_every_command_asks_and_prints_the_line_that_works(folder, tiny_model, command):
    refused = vidclip(*command, cwd=folder)
    assert refused.returncode == 2
    assert "is loaded only where you name it too" in refused.stderr
    assert refused.stderr.count("\n") == 1
    line = asked_for(refused.stderr)
    assert line == [*command, "--model", tiny_model]
    done = vidclip(*line, cwd=folder)
    assert done.returncode == 0, done.stderr
    if command[0] != "saliency":  # the others keep what they have computed
        assert vidclip(*command, cwd=folder).returncode == 0


def test_predict_asks_for_the_encoder_of_a_head(folder, tiny_model):
    assert vidclip("fit", "--epochs", 1, "--model", tiny_model, cwd=folder).returncode == 0
    save_video(folder / "new.mp4", frames=8)
    command = ["predict", "new.mp4", "--head", "head.safetensors", "--workers", "1"]
    refused = vidclip(*command, cwd=folder)
    assert asked_for(refused.stderr) == [*command, "--model", tiny_model]
    assert vidclip(*asked_for(refused.stderr), cwd=folder).returncode == 0


def test_the_settings_file_names_it_once_for_all(folder, tiny_model):
    (folder / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')
    assert vidclip("eval", cwd=folder).returncode == 0


def test_the_weights_must_be_the_same_and_may_lie_elsewhere(folder, tiny_model, other_tiny_model, tmp_path):
    other = vidclip("eval", "--model", other_tiny_model, cwd=folder)
    assert other.returncode == 2
    assert f"(and {other_tiny_model} has other weights or settings)" in other.stderr
    shutil.copytree(tiny_model.removeprefix("local-dir:"), tmp_path / "moved")
    moved = vidclip("eval", "--model", f"local-dir:{tmp_path / 'moved'}", cwd=folder)
    assert moved.returncode == 0, moved.stderr


def test_a_folder_that_has_changed_since(folder, tmp_path, tiny_model, other_tiny_model):
    shutil.copytree(tiny_model.removeprefix("local-dir:"), tmp_path / "m")
    model = f"local-dir:{tmp_path / 'm'}"
    changed = make_cache(tmp_path / "changed", model)
    for path in Path(other_tiny_model.removeprefix("local-dir:")).iterdir():
        shutil.copy(path, tmp_path / "m")
    done = vidclip("eval", "--model", model, cwd=changed)
    assert "has changed since the features were made" in done.stderr


def test_models_that_open_clip_or_vidclip_has_load_without_asking(tmp_path, tiny_model):
    work = make_cache(tmp_path / "work", "demo")
    (work / "vidclip.toml").write_text(f'model = "{tiny_model}"\n')  # meant for another cache
    done = vidclip("eval", cwd=work)
    assert done.returncode == 0, done.stderr
    typed = vidclip("eval", "--prompt", "none", "--model", tiny_model, cwd=work)
    assert typed.returncode == 2
    assert "Leave --model out" in typed.stderr
    assert vidclip("eval", "--prompt", "none", "--model", "demo", cwd=work).returncode == 0
    alone = vidclip("eval", "--pretrained", "openai", cwd=work)
    assert "--pretrained openai belongs to no --model" in alone.stderr
    assert not brings_own_files("ViT-B/16", "openai")
    assert not brings_own_files("ViT-B-16", "")
    assert brings_own_files("ViT-B-16", "/somewhere/weights.pt")
    assert brings_own_files("hf-hub:somebody/model", "")


def test_a_cache_that_names_a_checkpoint_file_asks_for_it(tmp_path, tiny_model):
    work = make_cache(tmp_path / "work", tiny_model, model="ViT-B-16", pretrained="/some where/weights.pt")
    command = ["eval", "--prompt", "none"]
    refused = vidclip(*command, cwd=work)
    assert asked_for(refused.stderr) == [
        *command, "--model", "ViT-B-16", "--pretrained", "/some where/weights.pt",
    ]  # fmt: skip


def test_two_encoders_are_named_apart(tmp_path, tiny_model, other_tiny_model):
    work = make_cache(tmp_path / "work", tiny_model)
    large = make_cache(tmp_path / "large", other_tiny_model)
    command = ["attributes", "--lexicon", "demo", "--retriever", large / "features"]
    first = vidclip(*command, cwd=work)
    second = vidclip(*asked_for(first.stderr), cwd=work)
    assert second.returncode == 2
    done = vidclip(*asked_for(second.stderr), cwd=work)
    assert done.returncode == 0, done.stderr


def test_the_name_of_a_folder_cannot_reach_the_terminal_or_the_shell(tmp_path, tiny_model):
    evil = "local-dir:/tmp/$(touch owned)\x1b[2J'\n;\udcff"
    work = make_cache(tmp_path / "work", tiny_model)
    document = json.loads((work / "features" / "cache.json").read_text())
    (work / "features" / "cache.json").write_text(json.dumps({**document, "model": evil}))
    done = vidclip("eval", cwd=work)
    assert done.stderr.rstrip("\n").isprintable()
    shown = done.stderr.partition("Run: ")[2].strip()
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True).stdout
    assert read.split(b"\0")[:4] == [b"vidclip", b"eval", b"--model", evil.encode("utf-8", "surrogateescape")]
    assert quoted(["a b", "c"]) == "'a b' c"


# --- what else the loader and the texts say


def test_from_python_the_loader_is_asked_in_the_same_way(folder, tiny_model):
    from vidclip.cache import FeatureCache

    cache, names = FeatureCache(folder / "features"), Lexicon("two", ("a", "b"), ("a", "b"))
    with pytest.raises(ModelNotNamed) as caught:
        text_embeddings(cache, names)
    assert caught.value.options == ("--model", tiny_model)
    notes: list[str] = []
    load = EncoderLoader("cpu", [(tiny_model, "")], on_note=notes.append)
    texts = text_embeddings(cache, names, load=load)
    assert texts.sentence.shape == (2, 32)
    assert notes == []


def test_texts_of_one_precision_are_not_served_for_another(folder, tiny_model):
    from vidclip.cache import FeatureCache

    cache, names = FeatureCache(folder / "features"), Lexicon("two", ("a cat", "b"), ("a cat", "b"))
    low = text_embeddings(
        cache, names, load=lambda _: load_encoder(tiny_model, device="cpu", precision="bf16")
    )
    exact = text_embeddings(cache, names, load=EncoderLoader("cpu", [(tiny_model, "")]))
    assert 0 < np.abs(low.sentence - exact.sentence).max() < 0.1
    direct = load_encoder(tiny_model, device="cpu", precision="fp32").encode_text(names.phrases)
    np.testing.assert_array_equal(exact.sentence, direct.sentence)


def test_a_file_of_unknown_precision_is_used_where_nothing_else_can_be(folder, tiny_model):
    from vidclip.cache import FeatureCache, write_texts

    cache, names = FeatureCache(folder / "features"), Lexicon("two", ("a", "b"), ("a", "b"))
    digest = cache.identity.encoder_digest
    old = replace(
        load_encoder(tiny_model).encode_text(names.phrases), sentence=np.eye(2, 32, dtype=np.float32)
    )
    path = text_path(cache.folder, "two", names.phrases, ("{}",), "name", digest, "")
    write_texts(path, old, lexicon="two", encoder_digest=digest)
    notes: list[str] = []
    found = text_embeddings(cache, names, load=EncoderLoader(on_note=notes.append))
    np.testing.assert_array_equal(found.sentence, old.sentence)
    assert "does not say in which precision" in notes[0]
    again = text_embeddings(cache, names, load=EncoderLoader("cpu", [(tiny_model, "")]))
    assert np.abs(again.sentence - old.sentence).max() > 0.1


def test_phrases_that_share_an_embedding_are_counted(tmp_path):
    encoder = load_encoder("demo", device="cpu")
    unknown = encoder.encode_text(["zumba", "yodel", "juggling", "waving"], words="none")
    u = unknown.sentence / np.linalg.norm(unknown.sentence, axis=1, keepdims=True)
    alike = (u @ u.T > 1 - 1e-6).sum(axis=1) > 1
    note = collapse_note(unknown)
    assert note.startswith(f"{alike.sum()} of 4 phrases share their embedding"), note
    first, second = np.flatnonzero(alike)[:2]
    assert f"{unknown.phrases[first]!r} and {unknown.phrases[second]!r}" in note
    assert collapse_note(encoder.encode_text(load_lexicon("demo").phrases, words="none")) == ""
    work = make_cache(tmp_path / "work", "demo")
    done = vidclip("attributes", "--lexicon", "k400", cwd=work)
    assert "of 400 phrases share their embedding with another" in done.stderr


def test_an_index_that_misses_much_is_warned_of(tmp_path):
    work = make_cache(tmp_path / "work", "demo")
    done = vidclip("attributes", "--lexicon", "k400", "--index", "ivf", "--json", "-", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "% of the attributes: use --index exact, or hnsw." in done.stderr
    exact = vidclip("attributes", "--lexicon", "k400", "--json", "-", cwd=work)
    assert "--index" not in exact.stderr


def test_an_unreadable_identity_is_an_error_of_ours(tmp_path):
    identity = Identity({"preprocess": {"size": 3}, "architecture": None}, {}, "demo")
    with pytest.raises(EncoderError, match="has changed since"):
        EncoderLoader("cpu")(identity)
