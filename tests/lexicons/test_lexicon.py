"""What a lexicon finds, refuses and tells of itself."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidclip.lexicons import Lexicon, LexiconError

names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
many_names = st.lists(names, min_size=1, max_size=12, unique=True)


def lexicon(*labels, phrases=None):
    return Lexicon(name="own", phrases=phrases or labels, labels=labels)


@given(many_names)
def test_every_label_finds_its_own_position(labels):
    own = lexicon(*labels)
    assert [own.index(label) for label in labels] == list(range(len(labels)))
    assert own.resolve(reversed(labels)) == list(range(len(labels)))[::-1]


@given(many_names, st.randoms())
def test_a_name_is_found_however_it_is_written_or_else_several_fit(labels, random):
    own = lexicon(*labels)
    label = random.choice(labels)
    written = "_".join(f" {label}_".split())
    assert labels.index(label) in own.find(written) or written in labels


@pytest.mark.parametrize(
    "written", ["air drumming", "air_drumming", "Air Drumming", "AirDrumming", " AIR  drumming"]
)
def test_case_spaces_and_underscores_do_not_matter(written):
    assert lexicon("abseiling", "air drumming", "zumba").index(written) == 1


def test_a_label_goes_before_a_phrase_and_an_exact_name_before_a_loose_one():
    own = lexicon("a", "b", "C", phrases=("b", "a", "c"))
    assert own.index("a") == 0
    assert own.index("b") == 1
    assert own.index("c") == 2
    assert lexicon("push up", "pushup").index("pushup") == 1


def test_composed_and_decomposed_letters_are_the_same():
    assert lexicon("caf\u00e9", "bar").index("cafe\u0301") == 0


def test_a_name_that_fits_several_classes_is_refused():
    own = lexicon("push up", "pushup", "squat")
    assert own.find("Push_Up") == (0, 1)
    with pytest.raises(LexiconError, match="'Push_Up' may be any of 'push up', 'pushup' in the lexicon own"):
        own.index("Push_Up")


def test_an_unknown_name_is_told_with_the_closest_ones():
    own = lexicon("abseiling", "air drumming", "zumba")
    message = "'air_drumin' is not in the lexicon own (3 names). Closest: 'air drumming'."
    with pytest.raises(LexiconError, match=f"^{re.escape(message)}$"):
        own.index("air_drumin")
    with pytest.raises(LexiconError, match=r"'xyz' is not in the lexicon own \(3 names\)\.$"):
        own.resolve(["zumba", "xyz"])
    assert own.close_labels("zumbaa") == ["zumba"]


def test_a_very_long_lexicon_answers_without_comparing_every_name():
    own = lexicon(*map(str, range(20_001)))
    with pytest.raises(LexiconError, match=r"'1.0' is not in the lexicon own \(20001 names\)\.$"):
        own.index("1.0")


def test_phrases_that_read_the_same_are_told():
    own = lexicon("a", "b", "c", "d", phrases=("missile", "sun  glasses", "Missile", "missile "))
    assert own.ambiguous() == [(0, 2), (0, 3)]
    assert lexicon("a", "b").ambiguous() == []


def test_the_digest_is_that_of_the_lexicon_as_a_file():
    own = lexicon("BrushHair", "Été", phrases=("brush hair", "été"))
    assert own.digest == hashlib.sha256("BrushHair\tbrush hair\nÉté\tété\n".encode()).hexdigest()
    assert own.short_digest == own.digest[:12]


def test_the_digest_is_of_what_is_said_and_not_of_its_name():
    own = lexicon("a", "b")
    assert own.digest == Lexicon(name="other", phrases=("a", "b"), labels=("a", "b"), source="x").digest
    others = [lexicon("b", "a"), lexicon("a", "b", phrases=("a", "c")), lexicon("a", "c", phrases=("a", "b"))]
    assert own.digest not in {other.digest for other in others}


def test_labels_from_folders_with_undecodable_names_have_a_digest():
    assert len(lexicon("a\udcff").digest) == 64


def test_source_does_not_make_two_lexicons_different():
    assert Lexicon("own", ("a",), ("a",), "here") == Lexicon("own", ("a",), ("a",), "there")
    assert Lexicon("own", ("a",), ("a",)) != Lexicon("own", ("b",), ("a",))


def test_it_has_a_length():
    assert len(lexicon("a", "b")) == 2


@pytest.mark.parametrize(
    ("labels", "phrases", "message"),
    [
        ((), (), "Lexicon own is empty"),
        (("a", "b"), ("a",), "has 1 phrases but 2 labels"),
        (("a", " "), ("a", "b"), "label 1 is blank"),
        (("a", "b"), ("", "b"), "phrase 0 is blank"),
        (("a", "b\n"), ("a", "b"), "label 1, 'b.n', holds a control character"),
        (("a",), ("\x1b[2J",), "phrase 0, '.x1b.2J', holds a control character"),
        (("a", "b", "a"), ("x", "y", "z"), "has the label 'a' twice, at positions 0 and 2"),
    ],
)
def test_what_is_no_lexicon_is_refused(labels, phrases, message):
    with pytest.raises(LexiconError, match=message):
        Lexicon(name="own", phrases=phrases, labels=labels)
