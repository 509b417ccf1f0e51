"""Training stills and captions: true, and without the unseen pairs."""

import itertools

import numpy as np
import pytest

from vidclip.demo.actions import ACTIONS, ORDER_PAIRS, UNSEEN_PAIRS
from vidclip.demo.captions import (
    FACTS,
    MAX_ATTRIBUTES,
    PHRASES,
    fact_vector,
    facts_of,
    make_caption,
    shows_unseen_pair,
    vocabulary,
)
from vidclip.demo.stills import sample_still, still_batch
from vidclip.demo.world import video_scene

UNSEEN_NAMES = [action.name for action in ACTIONS if not action.seen]


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(1)
    stills = [sample_still(rng) for _ in range(6000)]
    return [(facts, make_caption(facts, rng)) for _, _, facts in stills]


def test_no_training_still_shows_an_unseen_pair(samples):
    verbs = {verb for verb, _ in UNSEEN_PAIRS}
    for facts, _ in samples:
        shown_verbs = {f[5:] for f in facts if f.startswith("verb:")} & verbs
        shown_props = {f[5:] for f in facts if f.startswith("prop:")}
        assert not {(v, p) for v in shown_verbs for p in shown_props} & UNSEEN_PAIRS


def test_no_training_caption_names_an_unseen_pair(samples):
    for _, caption in samples:
        words = f" {caption.text.replace(',', ' ').replace('.', ' ')} "
        for verb, prop in UNSEEN_PAIRS:
            stem = verb.split()[0] if verb != "standing on" else verb
            assert not (f" {stem} " in words and f" {prop} " in words), caption.text


def test_the_check_does_see_unseen_pairs_in_evaluation_videos():
    action = next(a for a in ACTIONS if not a.seen)
    scene, moments = video_scene(action, 0)
    facts = facts_of(scene, moments[0])
    assert shows_unseen_pair(facts)
    assert f"pair:{action.name}" in facts
    assert not {f"pair:{name}" for name in UNSEEN_NAMES} & set(FACTS)


def test_all_seen_pairs_and_all_phrases_are_taught(samples):
    said = {caption.text for _, caption in samples}
    for action in ACTIONS:
        if action.seen:
            assert any(action.name in text for text in said), action.name
    for pair in ORDER_PAIRS:
        for action in pair:
            assert any(action.name in text for text in said), action.name
    for phrase in PHRASES:
        assert any(phrase in text for text in said), phrase


def test_captions_are_true_and_assert_more_and_more(samples):
    for facts, caption in samples:
        heard = [f for f in caption.asserted if f is not None]
        assert heard, caption.text
        assert heard[-1] <= facts
        assert all(a <= b for a, b in itertools.pairwise(heard))
        assert len(caption.words) == len(caption.asserted)


def test_a_name_asserts_its_verb_before_its_pair():
    facts = frozenset(
        ("verb:kicking", "prop:a ball", "pair:kicking a ball", "place:in a room", "shirt:red", "people:1")
    )
    rng = np.random.default_rng(0)
    captions = [make_caption(facts, rng) for _ in range(200)]
    caption = next(c for c in captions if c.text == "kicking a ball")
    assert caption.asserted == (
        frozenset({"verb:kicking"}),
        frozenset({"verb:kicking"}),
        frozenset({"verb:kicking", "prop:a ball", "pair:kicking a ball"}),
    )
    texts = {c.text for c in captions}
    assert "a video of a person kicking a ball." in texts
    assert "This is a video about kicking a ball" in texts
    lists = [t for t in texts if "," in t]
    assert lists
    assert all(t.count(",") < MAX_ATTRIBUTES and ", " not in t for t in lists)


def test_phrases_are_unique_and_known():
    assert len(set(PHRASES)) == len(PHRASES)
    assert len(set(FACTS)) == len(FACTS)
    assert all(facts <= set(FACTS) for facts in PHRASES.values())
    words = set(vocabulary())
    assert all(word in words for action in ACTIONS for word in action.name.split())


def test_fact_vectors_count_facts():
    assert fact_vector(frozenset()).sum() == 0
    vector = fact_vector(frozenset({"verb:kicking", "pair:no such thing"}))
    assert vector.sum() == 1
    assert vector[FACTS.index("verb:kicking")] == 1


def test_batches_follow_from_seed_and_index():
    first, again, other = still_batch(8, 0, 3), still_batch(8, 0, 3), still_batch(8, 1, 3)
    assert (first.images == again.images).all()
    assert [c.text for c in first.captions] == [c.text for c in again.captions]
    assert (first.images != other.images).any()
    assert first.images.shape == (8, 64, 64, 3)
