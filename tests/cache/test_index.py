"""A cache that opens from `cache.index` is the cache of its shards, or says why it is not."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import a_record, an_identity, as_version1
from vidclip.cache import (
    CacheError,
    CacheWriter,
    Failure,
    FeatureCache,
    ListFacts,
    index,
    remove_videos,
    update_labels,
    verify,
    writer,
)
from vidclip.cache.columns import CodedColumn, Finder, TextColumn, joined_codes, joined_texts, text_order

IDS = ["m/é.mp4", "b/2", "z/9", "a/1", "c/打", "b/10", "x/7"]


@pytest.fixture
def folder(write_cache, rng):
    records = [
        a_record(
            id,
            rng,
            labels=("one", "two")[: i % 3],
            split="train test"[: 5 * (i % 2)],
            duration_seconds=i / 3,
            n_frames=i,
            repeated=bool(i % 2),
            note="odd" if i == 2 else "",
            source_bytes=i,
        )
        for i, id in enumerate(IDS)
    ]
    return write_cache(records, shards=[3, 1, 3])


def content(cache: FeatureCache) -> tuple[object, ...]:
    parts = (cache.frames(), cache.frame_indices(), cache.timestamps())
    lists = (list(cache.ids), list(cache.labels), list(cache.splits), list(cache.videos))
    return *lists, *(part.tobytes() for part in parts), cache.shape, cache.replaced, cache.removed


def said_of(folder: Path) -> tuple[tuple[object, ...] | None, str]:
    """Return what a cache holds, or else why it does not say it."""
    try:
        return content(FeatureCache(folder)), ""
    except CacheError as error:
        return None, str(error)


def opened_from(folder: Path) -> list[bool]:
    return [shard.indexed for shard in FeatureCache(folder).shards]


def test_the_cache_of_an_index_is_that_of_its_shards(folder, rng):
    with CacheWriter(folder, an_identity()) as more:
        more.add(a_record("a/1", rng, generation=1))
        more.add_failure(Failure("z/9", "/z/9", "open", "0 bytes", generation=1))
    remove_videos(folder, ["b/2"])
    update_labels(folder, {"x/7": ListFacts(("new", "one"), "val")}, 7)
    expected = content(FeatureCache(folder))
    assert FeatureCache(folder).ids == ["a/1", "b/10", "c/打", "m/é.mp4", "x/7"]
    assert FeatureCache(folder).store_index()
    assert opened_from(folder) == [True] * 4
    assert content(FeatureCache(folder)) == expected
    assert FeatureCache(folder).next_generation("z/9") == 1
    assert [checked.problems for checked in verify(folder) if checked.path.name == "cache.index"] == [()]
    (folder / "removed.jsonl").unlink()
    cache = FeatureCache(folder)
    assert ("b/2" in cache, len(cache), cache.index("b/2")) == (True, 6, 2)


def test_shards_that_came_later_stand_beside_the_index(folder, rng):
    FeatureCache(folder).store_index()
    cache = FeatureCache(folder)
    with CacheWriter(folder, an_identity()) as more:
        more.add(a_record("b/1", rng, labels=("three",)))
        more.add(a_record("z/9", rng, generation=1))
    assert opened_from(folder) == [True, True, True, False]
    found = FeatureCache(folder)
    assert found.replaced == 1
    expected = content(found)
    assert cache.refresh() == 1
    assert content(cache) == expected
    (folder / "cache.index").unlink()
    assert content(FeatureCache(folder)) == expected


def test_an_index_of_other_shards_is_left_aside(folder, rng, write_cache):
    FeatureCache(folder).store_index()
    shard = folder / "frames-00001.h5"
    whole = shard.read_bytes()
    other = write_cache([a_record("o/1", rng)], "other") / "frames-00000.h5"
    shard.write_bytes(other.read_bytes())
    assert opened_from(folder) == [False] * 3
    assert "o/1" in FeatureCache(folder)
    shard.unlink()
    assert opened_from(folder) == [False] * 2
    assert [checked.problems for checked in verify(folder) if checked.problems] == []
    shard.write_bytes(whole)
    assert opened_from(folder) == [True] * 3
    rows = FeatureCache(folder).rows
    index.write_index(folder, "0" * 64, rows.shards, rows.table, rows.order, rows.same)
    assert opened_from(folder) == [False] * 3, "it is of another encoder or sampling"


def test_a_cache_goes_to_another_process(folder):
    cache = FeatureCache(folder)
    assert content(pickle.loads(pickle.dumps(cache))) == content(cache)
    cache.store_index()
    assert content(pickle.loads(pickle.dumps(FeatureCache(folder)))) == content(cache)


def test_version_1_has_no_index(folder):
    as_version1(folder / "frames-00001.h5")
    assert not FeatureCache(folder).store_index()
    assert not (folder / "cache.index").exists()


def test_shards_that_go_while_a_cache_is_open_are_named(folder):
    FeatureCache(folder).store_index()
    cache, opened = FeatureCache(folder), FeatureCache(folder)
    opened.frames()
    (folder / "frames-00001.h5").unlink()
    for each in (cache, opened):
        with pytest.raises(CacheError, match=r"frames-00001\.h5 has gone since the cache was opened"):
            each.frames()
    assert cache.refresh() == -1
    assert (cache.ids, cache.frames().shape) == ([id for id in sorted(IDS) if id != "a/1"], (6, 1, 4, 16))


def test_a_damaged_index_is_named_wherever_it_is(folder, caplog):
    FeatureCache(folder).store_index()
    path = folder / "cache.index"
    whole, truth = path.read_bytes(), content(FeatureCache(folder))
    warned = refused = 0
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        (checked,) = [each for each in verify(folder) if each.path == path]
        assert checked.problems, place
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found, said = said_of(folder)
        assert found == truth if found else "cache.index is damaged" in said, place
        refused += found is None
        warned += "cache.index is damaged" in caplog.text
    assert warned > 10, "it is not used, and the shards are read"
    assert refused > 3, "what was damaged is looked at later"
    for length in (0, 511, 600, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert content(FeatureCache(folder)) == truth


def changed(column: Any) -> Any:
    """Return a column that says something else of the first row."""
    if isinstance(column, CodedColumn):
        return column.replaced([0], [("never",) if isinstance(column.values[0], tuple) else "never"])
    if isinstance(column, TextColumn):
        return TextColumn.of([column[1], column[0], *column[2:]])
    other = column.copy()
    other[0] += 1
    return other


def lie(folder: Path, name: str) -> None:
    """Write an index with sound checksums that says something else than the shards."""
    cache = FeatureCache(folder)
    rows = cache.rows
    order, same = rows.order.copy(), rows.same
    if name == "order":
        order[[1, 2]] = order[[2, 1]]
    elif name == "same":
        same = np.array([2])
    elif name == "precision":
        rows.shards[0].precision = "fp16"
    elif name == "shape":
        for shard in rows.shards:
            shard.shape = (1, 2, 16)
    else:
        rows.table._made[name] = changed(rows.table[name])
    index.write_index(folder, cache.identity.digest, rows.shards, rows.table, order, same)


@pytest.mark.parametrize(
    "name",
    [
        *("id", "path", "split", "decoder", "root", "note", "labels", "order", "same", "precision", "shape"),
        *("duration_seconds", "n_frames", "readable_frames", "source_bytes", "generation"),
    ],
)
def test_an_index_that_lies_is_found_out(folder, name):
    lie(folder, name)
    (checked,) = [each for each in verify(folder) if each.path.name == "cache.index"]
    assert any("says otherwise than the shards" in problem for problem in checked.problems)
    if name in ("id", "shape"):  # features never go to another video
        with pytest.raises(CacheError, match=r"cache\.index says|frames.*has shape"):
            FeatureCache(folder).frames()


def test_an_index_that_could_lead_astray_is_not_used(folder, caplog):
    cache = FeatureCache(folder)
    rows = cache.rows
    outside, twice = rows.order.copy(), rows.order.copy()
    outside[0], twice[0] = 99, twice[1]
    for order, same, why in (
        (outside, rows.same, "rows that do not exist"),
        (twice, rows.same, "every row once"),
        (rows.order[:-1], rows.same, "6 rows, expected 7"),
        (rows.order, np.array([6]), "at no place"),
    ):
        index.write_index(folder, cache.identity.digest, rows.shards, rows.table, order, same)
        caplog.clear()
        assert opened_from(folder) == [False] * 3
        assert why in caplog.text


def test_a_writer_leaves_an_index_where_it_is_worth_it(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(writer, "INDEX_FROM", 3)
    for id, expected in (("a", None), ("b", None), ("c", [True] * 3), ("d", [True] * 4)):
        with CacheWriter(tmp_path, an_identity()) as more:
            more.add(a_record(id, rng))
        assert (tmp_path / "cache.index").exists() == (expected is not None)
        assert expected in (None, opened_from(tmp_path))
    before = (tmp_path / "cache.index").stat().st_mtime_ns
    with CacheWriter(tmp_path, an_identity()):
        pass
    assert (tmp_path / "cache.index").stat().st_mtime_ns == before, "there was nothing new"


def test_a_pass_goes_by_the_files_and_says_whose_rows_they_are(folder):
    cache = FeatureCache(folder)
    wanted = np.array([6, 0, 2, 5, 2])
    pieces = list(cache.scan(2, wanted))
    assert [len(places) for places, _, _ in pieces] == [2, 2, 1]
    places, indices = (np.concatenate([piece[part] for piece in pieces]) for part in (0, 1))
    assert [IDS.index(cache.ids[i]) for i in indices] == sorted(IDS.index(cache.ids[i]) for i in wanted)
    np.testing.assert_array_equal(indices, wanted[places])
    out = np.empty((5, *cache.shape[1:]), np.float16)
    for where, _, frames in pieces:
        out[where] = frames
    np.testing.assert_array_equal(out, cache.frames(wanted))
    assert [cache.ids[i] for _, indices, _ in cache.scan(3) for i in indices] == IDS
    with pytest.raises(ValueError, match="at least 1"):
        next(cache.scan(0))


def test_videos_are_made_when_they_are_asked_for(folder):
    cache = FeatureCache(folder)
    assert cache.videos[-1] == list(cache.videos)[6]
    assert cache.videos[1:3] == list(cache.videos)[1:3]
    assert [dataclasses.replace(video) for video in cache.videos] == cache.videos
    assert cache.videos != list(cache.videos)[:6]
    with pytest.raises(IndexError, match="no row 7"):
        cache.videos[7]
    with pytest.raises(TypeError):
        hash(cache.ids)
    with pytest.raises(KeyError):
        cache.index("nothing")


TEXTS = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=5)
    | st.binary(max_size=4).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    max_size=12,
)


@given(one=TEXTS, other=TEXTS)
def test_columns_hold_and_order_any_texts(one, other):
    column = joined_texts([TextColumn.of(one), TextColumn.of(other)])
    both = [*one, *other]
    assert column == both
    assert list(column) == both
    order, same = text_order(column)
    expected = sorted(range(len(both)), key=both.__getitem__)
    assert order.tolist() == expected
    assert same.tolist() == [i for i in range(len(both) - 1) if both[expected[i]] == both[expected[i + 1]]]
    once = sorted(set(both))
    ascending, find = TextColumn.of(once), Finder(TextColumn.of(once))
    for text in [*both, "nothing else"]:
        place = once.index(text) if text in once else -1
        assert ascending.find(text) == place
        assert find(text) == place
    codes = joined_codes([CodedColumn.of_texts(TextColumn.of(one)), CodedColumn.of(other)])
    assert codes == both
    assert codes.used() == list(dict.fromkeys(both))
    assert codes.where(lambda text: "a" in text).tolist() == ["a" in text for text in both]
    if both:
        assert codes.replaced([0], ["new"]) == ["new", *both[1:]]
