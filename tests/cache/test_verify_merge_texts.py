"""Trusting a cache, joining two, and the text embeddings beside the features."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from helpers import a_record, an_identity, as_version1, change_file
from vidclip.cache import (
    CacheError,
    CacheMismatch,
    CacheWriter,
    Failure,
    FeatureCache,
    MissingVideo,
    StoredAttributes,
    TextEmbeddings,
    attributes_path,
    list_texts,
    merge,
    read_attributes,
    read_texts,
    text_path,
    verify,
    write_attributes,
    write_missing,
    write_texts,
)


def problems(folder):
    return [problem for checked in verify(folder) for problem in checked.problems]


def test_a_sound_cache_has_no_problems(write_cache, rng):
    folder = write_cache([a_record(id, rng, labels=("x",)) for id in "abc"], shards=[2, 1])
    assert problems(folder) == []
    assert [checked.videos for checked in verify(folder)] == [2, 1]


def test_what_another_program_changes_is_found(write_cache, rng):
    """HDF5 writes over what lies behind its own part of the file, or next to it."""
    folder = write_cache([a_record("a", rng), a_record("b", rng)])
    with h5py.File(folder / "frames-00000.h5", "r+") as file:
        file["n_frames"][0] = 17
    with pytest.raises(CacheError, match=r"frames-00000\.h5.*another program wrote to it"):
        FeatureCache(folder)
    assert any("another program wrote to it" in problem for problem in problems(folder))


def test_a_flipped_bit_in_the_features_is_found(write_cache, rng):
    folder = write_cache([a_record("a", rng), a_record("b", rng)])
    path = folder / "frames-00000.h5"
    with h5py.File(path) as file:
        place = file["frames"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[place + 3] ^= 1
    path.write_bytes(raw)
    assert any("checksum" in problem for problem in problems(folder))
    cache = FeatureCache(folder)
    assert len(cache.timestamps()) == 2, "what is asked for is checked"
    for rows in (None, [0], [1, 0], slice(1, 2)):
        with pytest.raises(CacheError, match=r"frames-00000\.h5 has changed since it was written"):
            cache.frames(rows)


def test_zero_embeddings_of_older_versions_are_named(write_cache, rng):
    folder = write_cache([a_record("a", rng), a_record("b", rng)])
    change_file(folder / "frames-00000.h5", lambda columns, _: columns["frames"][1, 0, 3].fill(0))
    (problem,) = problems(folder)
    assert "frames-00000.h5 has embeddings that are all zero, of the video 'b'" in problem


def test_nan_duplicates_and_foreign_shards_are_found(write_cache, rng):
    folder = write_cache([a_record("a", rng)])
    shutil.copy(folder / "frames-00000.h5", folder / "frames-00001.h5")
    other = write_cache([a_record("z", rng)], "other", an_identity(frames=9))
    shutil.copy(other / "frames-00000.h5", folder / "frames-00002.h5")
    change_file(folder / "frames-00001.h5", lambda columns, _: columns["frames"][0, 0, 0].fill(np.nan))
    (folder / "frames-00003.h5").write_bytes(b"rubbish")
    found = "\n".join(problems(folder))
    assert (
        "frames-00001.h5 holds the video 'a', which is in frames-00000.h5 too, with different content"
        in found
    )
    assert "frames-00001.h5 has embeddings that are not finite, of the video 'a'" in found
    assert "frames-00002.h5 holds features of another encoder" in found
    assert "frames-00003.h5 is damaged" in found


# --- merge


def test_merged_caches_hold_what_both_held(write_cache, rng, tmp_path):
    shared = a_record("shared", rng, labels=("x", "y"), split="train")
    first = write_cache([a_record("a", rng), shared], "first")
    second = write_cache([a_record("b", rng), a_record("shared", rng)], "second")
    with CacheWriter(first, an_identity()) as writer:
        writer.add_failure(Failure("b", "/b", "timeout", "60 s"))
        writer.add_failure(Failure("c", "/c", "open", "0 bytes"))
    _write_some_texts(second)

    write_missing(first, [MissingVideo("gone", "test"), MissingVideo("b")])
    write_missing(second, [MissingVideo("gone", "test"), MissingVideo("lost")])

    merged = merge([first, second], tmp_path / "joined")

    assert (merged.videos, merged.already_there, merged.failures) == (3, 1, 1)
    cache = FeatureCache(tmp_path / "joined")
    assert cache.ids == ["a", "b", "shared"]
    np.testing.assert_array_equal(cache.frames([2])[0], shared.frames.astype(np.float16))
    assert cache.videos[2].labels == ("x", "y")
    assert [failure.id for failure in cache.failures()] == ["c"]
    assert [video.id for video in cache.missing()] == ["gone", "lost"], "b came with the second"
    assert problems(tmp_path / "joined") == []
    assert len(list_texts(tmp_path / "joined")) == 1
    assert merge([first, second], tmp_path / "joined").videos == 0, "again: nothing is left to do"


def test_caches_of_different_samplings_do_not_merge(write_cache, rng, tmp_path):
    first = write_cache([a_record("a", rng)], "first")
    second = write_cache([a_record("b", rng)], "second", an_identity(frames=9))
    with pytest.raises(CacheMismatch, match=r"(?s)4 frames.*9 frames.*second.*Only caches of one"):
        merge([first, second], tmp_path / "joined")
    with pytest.raises(CacheError, match="name a new folder"):
        merge([first], first)


@pytest.mark.parametrize("version", [1, 2])
def test_a_damaged_source_is_named_and_nothing_of_it_is_merged(write_cache, rng, tmp_path, version):
    first = write_cache([a_record("a", rng)], "first")
    second = write_cache([a_record("b", rng), a_record("c", rng)], "second")
    path = second / "frames-00000.h5"
    if version == 1:
        as_version1(path)
    with h5py.File(path) as file:
        place = file["timestamps"].id.get_offset()
    raw = path.read_bytes()
    path.write_bytes(raw[: place + 2] + bytes([raw[place + 2] ^ 1]) + raw[place + 3 :])
    with pytest.raises(CacheError, match=r"second/frames-00000\.h5 has changed since it was written"):
        merge([first, second], tmp_path / "joined")
    assert FeatureCache(tmp_path / "joined").ids == ["a"]
    assert problems(tmp_path / "joined") == []
    path.write_bytes(raw)
    assert merge([first, second], tmp_path / "joined").videos == 2, "and goes on, once it is whole"
    assert FeatureCache(tmp_path / "joined").ids == ["a", "b", "c"]


@pytest.mark.parametrize(("value", "what"), [(np.nan, "not finite"), (0, "all zero")])
def test_unusable_embeddings_are_not_merged(write_cache, rng, tmp_path, value, what):
    """Older writers let zeros pass, and other programs may write anything."""
    folder = write_cache([a_record("a", rng), a_record("b", rng)], "source")
    change_file(folder / "frames-00000.h5", lambda columns, _: columns["frames"][1].fill(value))
    with pytest.raises(CacheError, match=rf"frames-00000\.h5 cannot be merged: 'b' .* {what}"):
        merge([folder], tmp_path / "joined")
    assert FeatureCache(tmp_path / "joined").ids == ["a"]


def test_damaged_texts_are_not_merged(write_cache, rng, tmp_path):
    folder = write_cache([a_record("a", rng)], "source")
    path, *_ = _write_some_texts(folder)
    raw = path.read_bytes()
    path.write_bytes(raw[:600] + b"\xff" + raw[601:])  # of HDF5's own, which vidclip does not read
    with pytest.raises(CacheError, match="text-my_lexicon.* has changed"):
        merge([folder], tmp_path / "joined")
    assert not (tmp_path / "joined").exists(), "said before any work"


def test_texts_of_version_1_are_merged(write_cache, tmp_path):
    folder = write_cache([], "source")
    path, digest, texts = _write_some_texts(folder)
    as_version1(path)
    merge([folder], tmp_path / "joined")
    np.testing.assert_array_equal(read_texts(tmp_path / "joined" / path.name, digest).words, texts.words)
    assert list_texts(tmp_path / "joined")[0].lexicon == "my/lexicon"
    assert problems(tmp_path / "joined") == []


# --- texts


def _some_texts(rng):
    return TextEmbeddings(
        phrases=("applying cream", "[b]bold[/b]"),
        prompts=("This is a video about {}",),
        word_mode="name",
        sentence=rng.standard_normal((2, 16)).astype(np.float32),
        words=rng.standard_normal((5, 16)).astype(np.float32),
        offsets=np.array([0, 2, 5]),
        truncated=("[b]bold[/b]",),
    )


def _write_some_texts(folder, rng=None):
    texts = _some_texts(rng or np.random.default_rng(1))
    digest = FeatureCache(folder).identity.encoder_digest
    path = text_path(folder, "my/lexicon", texts.phrases, texts.prompts, texts.word_mode, digest)
    write_texts(path, texts, lexicon="my/lexicon", encoder_digest=digest)
    return path, digest, texts


def test_texts_come_back(write_cache, rng):
    folder = write_cache([])
    path, digest, texts = _write_some_texts(folder)
    read = read_texts(path, digest)
    for name in ("phrases", "prompts", "word_mode", "truncated"):
        assert getattr(read, name) == getattr(texts, name)
    for name in ("sentence", "words", "offsets"):
        np.testing.assert_array_equal(getattr(read, name), getattr(texts, name))
    (info,) = list_texts(folder)
    assert (info.lexicon, info.phrases, info.word_mode) == ("my/lexicon", 2, "name")


def test_texts_of_another_tower_stay_beside_those_of_the_encoder(write_cache, rng, tmp_path):
    folder = write_cache([a_record("a", rng)])
    texts, digest = _some_texts(rng), "7" * 64
    path = text_path(folder, "zh", texts.phrases, texts.prompts, texts.word_mode, digest)
    write_texts(path, texts, lexicon="zh", encoder_digest=digest)
    (problem,) = problems(folder)
    assert "text embeddings of another encoder" in problem, "it does not say that it is a tower's"

    write_texts(path, texts, lexicon="zh", encoder_digest=digest, tower="/models/zh")
    assert problems(folder) == []
    assert list_texts(folder)[0].tower == "/models/zh"
    merge([folder], tmp_path / "joined")
    (joined,) = list_texts(tmp_path / "joined")
    assert (joined.path.name, joined.tower) == (path.name, "/models/zh")
    np.testing.assert_array_equal(read_texts(joined.path, digest).words, texts.words)
    with pytest.raises(CacheError, match="of another encoder"):
        read_texts(path, FeatureCache(folder).identity.encoder_digest)


def test_rejects_a_renamed_file(write_cache, tmp_path):
    """The name says which phrases and prompts are inside: whoever asks for these must not get others."""
    folder = write_cache([])
    path, digest, texts = _write_some_texts(folder)
    other = text_path(folder, "my/lexicon", texts.phrases, ("{}",), texts.word_mode, digest)
    path.rename(other)
    for use in (
        lambda: read_texts(other, digest),
        lambda: list_texts(folder),
        lambda: merge([folder], tmp_path / "merged"),
    ):
        with pytest.raises(CacheError, match=f"was written under the name '{path.name}'"):
            use()
    assert any("was written under the name" in problem for problem in problems(folder))


def test_rejects_renamed_attributes(write_cache, rng):
    folder = write_cache([])
    for top in (1, 2):
        settings = {"lexicon": "words", "top": top, "reader": FeatureCache(folder).identity.encoder_digest}
        found = StoredAttributes(
            ("a", "b"), (), np.zeros((0, top)), np.zeros((0, top)), np.zeros((0, 16)), settings
        )
        write_attributes(attributes_path(folder, "words", settings), found)
    assert not problems(folder)
    first, second = sorted(folder.glob("attributes-*"))
    shutil.copy(first, second)
    with pytest.raises(CacheError, match="of other settings than its name says"):
        read_attributes(second)
    assert len(problems(folder)) == 1


def test_merging_keeps_the_precision_of_texts(write_cache, tmp_path):
    folder = write_cache([])
    texts = _some_texts(np.random.default_rng(1))
    digest = FeatureCache(folder).identity.encoder_digest
    for precision in ("bf16", ""):
        path = text_path(folder, "l", texts.phrases, texts.prompts, texts.word_mode, digest, precision)
        write_texts(path, texts, lexicon="l", encoder_digest=digest, precision=precision)
    merge([folder], tmp_path / "merged")
    for path in folder.glob("text-*"):
        assert (tmp_path / "merged" / path.name).read_bytes() == path.read_bytes()


def test_another_prompt_phrase_mode_or_encoder_is_another_file(tmp_path):
    base = {"lexicon": "l", "phrases": ["a"], "prompts": ["{}"], "word_mode": "name", "encoder_digest": "0"}
    changes = [{}, {"phrases": ["b"]}, {"prompts": ["a {}"]}, {"word_mode": "all"}, {"encoder_digest": "1"}]
    assert len({text_path(tmp_path, **{**base, **change}) for change in changes}) == len(changes)


def test_texts_of_another_encoder_or_damaged_are_refused(write_cache, rng):
    path, digest, _ = _write_some_texts(write_cache([]))
    with pytest.raises(CacheError, match="another encoder"):
        read_texts(path, "0" * 64)
    with h5py.File(path) as file:
        place = file["sentence"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CacheError, match="checksum"):
        read_texts(path, digest)
    assert any("checksum" in problem for problem in problems(path.parent))
