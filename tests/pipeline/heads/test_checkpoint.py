"""Files of heads: damaged, foreign, or made to do harm."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import an_identity
from vidclip.pipeline.heads import (
    AttributesHead,
    HeadConfig,
    HeadError,
    HeadScorer,
    NoScores,
    StoredHead,
    TrainSettings,
    VideoHead,
    load_head,
    save_head,
)
from vidclip.pipeline.scoring import ConceptSpottingConfig

D, C, T = 8, 3, 4
NAMES = ("dig", "swim", "bake")


def a_head(rng, temporal="conv", pool="vcs") -> StoredHead:
    words = (rng.standard_normal((5, D)), np.array([0, 0, 1, 2, 2])) if pool == "vcs" else None
    head = VideoHead(HeadConfig("text", temporal, pool), rng.standard_normal((C, D)), D, T, words)
    settings = {"temperature": 0.01, "prompts": ["{}"]}
    seen = rng.integers(-9, 9, (6, 2))
    return StoredHead(head.eval(), an_identity(), NAMES, settings, trained_on=seen)


def what_it_says(head: StoredHead, frames):
    scores = head.module.scores(frames)
    return scores.tobytes(), head.identity, head.classes, dict(head.settings), head.trained_on.tobytes()


@pytest.fixture
def stored(rng, tmp_path):
    path = tmp_path / "h.safetensors"
    save_head(path, a_head(rng))
    return path


def header_of(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_header(path, header, body):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def test_every_flipped_byte_is_found_or_changes_nothing(stored, rng, tmp_path):
    data, frames = stored.read_bytes(), rng.standard_normal((2, T, D)).astype(np.float32)
    expected, found = what_it_says(load_head(stored), frames), 0
    damaged = tmp_path / "d"
    places = [*range(8), *range(8 + int(rng.integers(3)), len(data), 3)]
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        try:
            head = load_head(damaged)
        except HeadError:
            found += 1
        else:
            assert what_it_says(head, frames) == expected, place
    assert found > 0.95 * len(places)


def test_every_truncation_is_found(stored, tmp_path):
    data = stored.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "d").write_bytes(data[:length])
        with pytest.raises(HeadError, match="is no head of vidclip, or is damaged"):
            load_head(tmp_path / "d")
    (tmp_path / "d").write_bytes(data + b"\0" * 16)
    with pytest.raises(HeadError):
        load_head(tmp_path / "d")


def without_digest(path):
    """The same head as vidclip wrote it before it knew digests."""
    header, body = header_of(path)
    metadata = json.loads(header["__metadata__"]["vidclip"])
    del metadata["sha256"]
    metadata["version"] = "2"
    header["__metadata__"]["vidclip"] = json.dumps(metadata, sort_keys=True)
    put_header(path, header, body)


def test_a_head_without_a_digest_is_read_and_its_numbers_are_checked(stored, rng, tmp_path):
    frames = rng.standard_normal((2, T, D)).astype(np.float32)
    expected = what_it_says(load_head(stored), frames)
    without_digest(stored)
    assert what_it_says(load_head(stored), frames) == expected
    header, body = header_of(stored)
    start, _ = header["head.rows"]["data_offsets"]
    for bad in (np.nan, np.inf):
        broken = body[:start] + np.float32(bad).tobytes() + body[start + 4 :]
        put_header(tmp_path / "bad", header, broken)
        with pytest.raises(
            HeadError, match=r"bad is damaged: the tensor 'head.rows' holds numbers that are not"
        ):
            load_head(tmp_path / "bad")


def test_rejects_writing_numbers_that_are_not_finite(rng, tmp_path):
    head = a_head(rng)
    with pytest.raises(HeadError, match="not written"):
        save_head(tmp_path / "h", replace(head, settings={"loss": float("nan")}))
    head.module.class_embeddings[1, 2] = float("nan")
    with pytest.raises(HeadError, match=r"'head.rows' holds numbers that are not finite"):
        save_head(tmp_path / "h", head)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["structure"].update(dimension=10**12), "damaged"),
        (lambda m: m["structure"].update(frames=10**12, temporal="mit"), "damaged"),
        (lambda m: m["structure"].update(temporal="transformer"), "damaged"),
        (lambda m: m["structure"].update(spotting_temperature=1e-320), "spotting_temperature must be above 0"),
        (lambda m: m["structure"].update(odd=1), "odd"),
        (lambda m: m["structure"].update(prompt_context=2), "does not have 2 vectors"),
        (lambda m: m["structure"].update(frames="many"), "damaged"),
        (lambda m: m.update(classes=["one"]), "1 classes, and embeddings of 3"),
        (lambda m: m.update(classes=[1, 2, 3]), "no list of names"),
        (lambda m: m.update(classes={}), "no list of names"),
        (lambda m: m["settings"].update(temperature=0), "temperature must be above 0"),
        (lambda m: m["settings"].update(temperature="0.01"), "temperature must be a number"),
        (lambda m: m["settings"].update(prompts="{}"), "no list of sentences"),
        (lambda m: m.pop("settings"), "'settings' is missing"),
        (lambda m: m.pop("identity"), "'identity' is missing"),
        (lambda m: m.update(kind="attributes"), "'sentence.0.weight' is missing"),
    ],
)  # fmt: skip
def test_rejects_metadata_that_does_not_fit(stored, change, message):
    without_digest(stored)  # as somebody would make it who wants to be believed
    header, body = header_of(stored)
    metadata = json.loads(header["__metadata__"]["vidclip"])
    change(metadata)
    header["__metadata__"]["vidclip"] = json.dumps(metadata)
    put_header(stored, header, body)
    with pytest.raises(HeadError, match=message):
        load_head(stored)


def test_numbers_beyond_json_and_deep_nesting_are_refused(stored):
    header, body = header_of(stored)
    for text in ('{"format": NaN}', '{"format": 1e', "[" * 100_000):
        header["__metadata__"]["vidclip"] = text
        put_header(stored, header, body)
        with pytest.raises(HeadError, match="is no head of vidclip, or is damaged"):
            load_head(stored)


def test_sizes_that_the_file_does_not_hold_get_no_memory(tmp_path):
    """An attributes head has [D, D] matrices: D must not be believed of a tensor without elements."""
    metadata = {
        "format": "vidclip-head", "version": "2", "kind": "attributes", "identity": an_identity().to_dict(),
        "classes": ["x"], "settings": {}, "structure": {},
    }  # fmt: skip
    tensor = {"dtype": "F32", "shape": [0, 10**6], "data_offsets": [0, 0]}
    header = {"__metadata__": {"vidclip": json.dumps(metadata)}, "head.sentence.0.weight": tensor}
    put_header(tmp_path / "h", header, b"")
    with pytest.raises(HeadError, match="damaged"):
        load_head(tmp_path / "h")
    many = {f"head.{i}": {**tensor, "shape": [0]} for i in range(2000)}
    put_header(tmp_path / "h", {**header, **many}, b"")
    with pytest.raises(HeadError, match="2001 tensors"):
        load_head(tmp_path / "h")


@pytest.mark.parametrize("owners", [[0, 0, 1, 2, 3], [0, 0, 1, 1, 1], [-1, 0, 1, 2, 2]])
def test_words_of_no_class_and_classes_without_words_are_refused(stored, owners):
    without_digest(stored)
    weights = load_file(stored)
    header, _ = header_of(stored)
    weights["head.owners"] = torch.tensor(owners)
    save_file(weights, stored, header["__metadata__"])
    with pytest.raises(HeadError, match="owners must be between|has no query"):
        load_head(stored)


def test_weights_of_another_type_are_refused(stored):
    without_digest(stored)
    header, _ = header_of(stored)
    weights = load_file(stored)
    for dtype in (torch.float64, torch.int8, torch.bfloat16):
        save_file({**weights, "head.rows": weights["head.rows"].to(dtype)}, stored, header["__metadata__"])
        with pytest.raises(HeadError, match=r"'rows' is torch\.\w+, not torch.float32"):
            load_head(stored)


def test_features_of_another_dimension_are_refused(rng):
    head = a_head(rng)
    head.check_features((9, 1, T, D), "features")
    with pytest.raises(HeadError, match="reads embeddings of 8 dimensions, but those of features have 16"):
        head.check_features((9, 1, T, 16), "features")
    with pytest.raises(HeadError, match="of 4 dimensions"):
        StoredHead(AttributesHead(4), an_identity(), ("x",), {}).check_features((9, 1, T, 16), "features")


@pytest.mark.parametrize("value", [0, -1, 1e-320, 1e-9, 1e9, float("inf"), float("nan"), True, "0.01"])
def test_rejects_temperatures_out_of_bounds(value):
    for made in (
        lambda: TrainSettings(temperature=value),
        lambda: HeadConfig(spotting_temperature=value),
        lambda: ConceptSpottingConfig(temperature=value),
    ):
        with pytest.raises(ValueError, match="temperature must be"):
            made()


def test_rejects_scores_that_overflow(rng):
    """Finite weights, finite features, and products that are neither: no figure is made of them."""
    head = a_head(rng, temporal="conv", pool="mean").module
    frames = rng.standard_normal((2, 1, T, D), np.float32)
    HeadScorer(head, name="mine").similarities(np.arange(2), frames)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(3e38)
    with pytest.raises(NoScores, match="the head mine gives scores that are not finite"):
        HeadScorer(head, name="mine").similarities(np.arange(2), frames)


def test_rejects_an_attributes_head_that_overflows(rng):
    head = AttributesHead(D)
    sentences, classes = rng.random((2, C, D), np.float32)
    sentences[1] = np.nan  # a video without attributes
    found, _ = head.apply_to(sentences, classes)
    assert np.isnan(found).any(axis=1).tolist() == [False, True, False]
    with torch.no_grad():
        head.sentence[0].weight.fill_(3e38)
        head.sentence[2].weight.fill_(-3e38)
    with pytest.raises(NoScores, match="the head of attributes gives scores that are not finite"):
        head.apply_to(sentences, classes)
