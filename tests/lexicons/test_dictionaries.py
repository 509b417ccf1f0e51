"""Lists in other words: the Chinese dictionaries, and the demo's English paraphrases."""

import re

import pytest

from vidclip.demo.actions import ACTIONS, ORDER_PAIRS
from vidclip.demo.captions import PHRASES
from vidclip.lexicons import available_lexicons, load_lexicon

LISTS = ("kinetics400", "ucf101", "hmdb51", "something-something-v1", "demo", "demo-classes", "demo-order")
PARAPHRASES = ("demo", "demo-classes", "demo-order")
CHINESE = re.compile(r"[\u4e00-\u9fff]+")


def is_simplified(text):
    """GB 2312 of 1980 has the simplified forms alone, none of the traditional ones that differ from them."""
    try:
        text.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("name", LISTS)
def test_a_dictionary_has_the_labels_of_its_list_in_its_order(name):
    chinese, english = load_lexicon(f"{name}-zh"), load_lexicon(name)
    assert chinese.labels == english.labels
    assert not chinese.ambiguous()


@pytest.mark.parametrize("name", LISTS)
def test_phrases_are_short_simplified_chinese_and_differ(name):
    phrases = load_lexicon(f"{name}-zh").phrases
    longest = (
        14 if name.startswith("demo") else 40
    )  # the demo's tower reads 32 tokens, of 2 or 3 for a character
    assert len(set(phrases)) == len(phrases)
    for phrase in phrases:
        assert CHINESE.fullmatch(phrase), phrase
        assert is_simplified(phrase), phrase
        assert len(phrase) <= longest, phrase


def test_the_check_of_characters_sees_latin_and_traditional_ones():
    assert not CHINESE.fullmatch("打DJ")
    assert not is_simplified("開門")


@pytest.mark.parametrize("name", PARAPHRASES)
def test_paraphrases_have_the_labels_and_other_words(name):
    paraphrase, english = load_lexicon(f"{name}-paraphrase"), load_lexicon(name)
    assert paraphrase.labels == english.labels
    assert not set(paraphrase.phrases) & set(english.phrases)


def test_the_demo_lists_are_those_of_its_world():
    assert load_lexicon("demo").phrases == tuple(PHRASES)
    assert load_lexicon("demo-classes").phrases == tuple(action.name for action in ACTIONS)
    assert load_lexicon("demo-order").phrases == tuple(a.name for pair in ORDER_PAIRS for a in pair)


def test_every_dictionary_is_listed():
    names = {info.name for info in available_lexicons()}
    assert {f"{name}-zh" for name in LISTS} <= names
