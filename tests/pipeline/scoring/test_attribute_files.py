"""Attributes in the files that BIKE publishes: read, matched with a cache, embedded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers import a_record
from vidclip.cache import FeatureCache
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.scoring import (
    AttributesError,
    AttributesScorer,
    MissingAttributes,
    attributes_from_files,
    match_videos,
    read_attribute_file,
    sentences_by_row,
)
from vidclip.pipeline.video import Sampling


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu")


@pytest.fixture
def cache(write_cache, encoder, rng):
    records = [
        replace(a_record(id, rng), frames=rng.standard_normal((1, 4, 32)).astype(np.float32))
        for id in ("dig/b.mp4", "dig/a.mp4", "swim/c.avi", "swim/d.mp4")
    ]
    return FeatureCache(write_cache(records, identity=cache_identity(encoder, Sampling(4))))


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_published_form_is_read_matched_and_embedded(cache, encoder, tmp_path):
    """Named as in the lists: without a suffix, below another folder; a list beside it is left aside."""
    file = written(
        tmp_path / "val.json",
        {
            "val_256/dig/a": {"classname_topk": ["a hole", "sand", "a spade"], "imagenet_topk": ["x"]},
            "val_256/dig/b": {"classname_topk": ["sand", "a beach", "sun"]},
            "val_256/swim/c": {"classname_topk": ["water", "sand", "sun"]},
            "val_256/swim/elsewhere": {"classname_topk": ["tea", "sand", "sun"]},
        },
    )
    found = attributes_from_files(cache, [read_attribute_file(file)], top=2, load=lambda _: encoder)
    assert found.stored.ids == tuple(id for id in cache.ids if id != "swim/d.mp4")
    assert (found.without, found.unknown, found.computed) == (("swim/d.mp4",), 1, True)
    by_row = sentences_by_row(found.stored, cache)
    for id, phrases in (
        ("dig/a.mp4", "a hole,sand"),
        ("dig/b.mp4", "sand,a beach"),
        ("swim/c.avi", "water,sand"),
    ):
        assert ",".join(found.stored.of(found.stored.ids.index(id))) == phrases
        expected = encoder.encode_text([f"This is a video about {phrases}"], words="none").sentence[0]
        np.testing.assert_allclose(by_row[cache.index(id)], expected, atol=1e-5)

    def never(_identity):
        raise AssertionError("nothing should have to be encoded")

    again = attributes_from_files(cache, [read_attribute_file(file)], top=2, load=never)
    assert not again.computed
    np.testing.assert_array_equal(again.stored.sentence, found.stored.sentence)
    other = attributes_from_files(
        cache, [read_attribute_file(file)], top=2, prompt="{}", load=lambda _: encoder
    )
    assert other.computed, "another prompt is another key"
    assert not np.allclose(other.stored.sentence, found.stored.sentence)

    scorer = AttributesScorer(by_row, np.eye(32, dtype=np.float32))
    have = np.array([cache.index(id) for id in found.stored.ids])
    assert np.isfinite(scorer.similarities(have, np.zeros((3, 1, 4, 32)))).all()
    with pytest.raises(MissingAttributes, match="1 of the 4 videos that are read now have no attributes"):
        scorer.similarities(np.arange(4), np.zeros((4, 1, 4, 32)))


def test_several_files_are_joined(cache, encoder, tmp_path):
    entry = {"classname_topk": ["sand", "sun"]}
    one = read_attribute_file(written(tmp_path / "train.json", {"dig/a": entry, "dig/b": entry}))
    two = read_attribute_file(written(tmp_path / "val.json", {"swim/c": entry, "swim/d": entry}))
    both = attributes_from_files(cache, [one, two], top=2, load=lambda _: encoder)
    assert both.stored.ids == tuple(cache.ids)
    with pytest.raises(AttributesError, match=r"'dig/a' is in two of .*train\.json and .*train\.json"):
        attributes_from_files(cache, [one, one], top=2)
    with pytest.raises(
        AttributesError, match="has 2 phrases in .*, and 3 are asked for: give a smaller --top"
    ):
        attributes_from_files(cache, [one], top=3)
    none = read_attribute_file(written(tmp_path / "other.json", {"x/y": entry}))
    with pytest.raises(AttributesError, match=r"no video of .* is in .*other\.json: .* the file 'x/y'"):
        attributes_from_files(cache, [none], top=2)


@pytest.mark.parametrize(
    ("ids", "names", "expected"),
    [
        (["a.mp4"], ["a.mp4", "a"], {"a.mp4": "a.mp4"}),
        (["k/a.mp4"], ["a", "k/a", "z/k/a.webm"], None),  # the second and the third fit equally well
        (["k/a.mp4"], ["a", "q/a", "z/k/a.webm"], {"k/a.mp4": "z/k/a.webm"}),
        (["k/a.mp4"], ["q/a"], {"k/a.mp4": "q/a"}),
        (["k/a.mp4", "q/a.mp4"], ["q/a"], {"q/a.mp4": "q/a"}),
        (["k/a.mp4", "l/a.mp4"], ["q/a"], None),
        (["k/a.mp4"], ["q/a", "r/a"], None),
        (["k/v1.2"], ["v1"], {}),
        (["a\\b.mp4"], ["b"], {"a\\b.mp4": "b"}),
    ],
)
def test_videos_are_found_by_the_end_of_their_path(ids, names, expected):
    if expected is None:
        with pytest.raises(AttributesError, match="may be"):
            match_videos(ids, names)
    else:
        assert match_videos(ids, names) == expected


def test_long_paths_and_many_videos_of_one_name_cost_little():
    names = [f"{i}/" + "a/" * 2000 + "x" for i in range(300)]
    with pytest.raises(AttributesError, match="may be"):
        match_videos([f"{i}/x.mp4" for i in range(300)], names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "is not JSON that can be read"),
        ('{"a": ', "row 1 is not JSON"),
        ("[]", "is not of the form"),
        ("{}", "is not of the form"),
        ({"a": ["x"]}, 'has no list "classname_topk" of phrases'),
        ({"a": {"classname_topk": "x"}}, 'has no list "classname_topk" of phrases'),
        ({"a": {"classname_topk": []}}, 'has no list "classname_topk" of phrases'),
        ({"a": {"classname_topk": ["x", 3]}}, "'3' is not a phrase"),
        ({"a": {"classname_topk": ["x", " "]}}, "is not a phrase"),
        ({"a": {"classname_topk": ["x" * 2000]}}, "is not a phrase"),
        ({"a": {"classname_topk": ["\ud800"]}}, "is not a text"),
        ({"a": {"classname_topk": ["x"] * 20_000}}, "has 20,000 phrases; 10,000 at most"),
        ('{"a": {"classname_topk": ["x"]}, "a": {"classname_topk": ["y"]}}', "'a' stands in it twice"),
        ('{"a": ' + "9" * 10_000 + "}", "is not JSON that can be read"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, content, message):
    path = written(tmp_path / "a.json", content)
    with pytest.raises(AttributesError, match=message) as raised:
        read_attribute_file(path)
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_a_file_larger_than_any_such_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vidclip.pipeline.scoring.attribute_files._MOST_BYTES", 100)
    path = written(tmp_path / "a.json", {"a": {"classname_topk": ["x" * 100]}})
    with pytest.raises(AttributesError, match="no file of attributes"):
        read_attribute_file(path)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(AttributesError, match="is not JSON that can be read"):
        read_attribute_file(tmp_path / "b.json")
    with pytest.raises(AttributesError, match="cannot be read"):
        read_attribute_file(tmp_path / "missing.json")
