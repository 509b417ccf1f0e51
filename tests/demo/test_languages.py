"""The demo's world in other words: its sentences, its Chinese tokens, and towers that are trained by themselves."""

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file

from vidclip.demo.captions import FACTS, PHRASES, fact_vector
from vidclip.demo.chinese import HELD_OUT, report, train
from vidclip.demo.languages import load_language, sentence, tokenize
from vidclip.demo.lit import folder_state, used_tokens
from vidclip.demo.lit import train as train_tower
from vidclip.demo.tokens import CONTEXT
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.encoders import load_encoder, load_text_tower
from vidclip.pipeline.encoders.files import chinese_of_demo
from vidclip.pipeline.scoring import agreement

PROMPT = "关于{}的视频"


def a_still(rng):
    """Facts of a still: a place, a shirt, and somebody who does something."""
    row = fact_vector(PHRASES["in the park"] | PHRASES["a red shirt"])
    chosen = [f for f in ("verb:kicking", "prop:a ball", "pair:kicking a ball") if f in FACTS]
    row[[FACTS.index(fact) for fact in chosen]] = 1
    return row


@pytest.mark.parametrize("name", ["zh", "paraphrase"])
def test_sentences_say_what_is_true_and_all_that_they_assert(name, rng):
    language, row = load_language(name), a_still(rng)
    true = {FACTS[i] for i in np.flatnonzero(row)}
    said = set()
    for _ in range(200):
        text, asserted = sentence(row, language, rng)
        assert asserted <= true
        said.add(text)
        phrases = [label for label, phrase in language.phrases.items() if phrase in text]
        assert phrases, text
    assert any(language.phrases["kicking a ball"] in text for text in said)
    assert any(language.phrases["in the park"] in text for text in said)


@pytest.mark.parametrize("name", ["zh", "paraphrase"])
def test_every_phrase_fits_the_context_in_its_prompt(name):
    language = load_language(name)
    tokenizer = SimpleTokenizer(context_length=CONTEXT)
    for phrase in language.phrases.values():
        for prompt in language.prompts:
            assert len(tokenizer.encode(prompt.replace("{}", phrase))) + 2 <= CONTEXT, phrase


@pytest.fixture(scope="module")
def english():
    return load_encoder("demo", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def chinese():
    return load_text_tower("demo-zh")


def test_english_is_the_same_to_the_bit(english, chinese):
    phrases = [*PHRASES, *load_lexicon("demo-classes").phrases, *load_lexicon("demo-order").phrases]
    for prompt in ("This is a video about {}", "{}"):
        own, with_chinese = (tower.encode_text(phrases, (prompt,)) for tower in (english, chinese))
        np.testing.assert_array_equal(own.sentence, with_chinese.sentence)
        np.testing.assert_array_equal(own.words, with_chinese.words)


def test_its_digest_is_that_of_another_tower(chinese):
    assert chinese.digest != load_text_tower("demo").digest


def test_the_rows_stand_where_the_packaged_table_has_zeros(english):
    extra = load_file(chinese_of_demo())
    table = english.network.token_embedding.weight
    assert not bool(table[extra["tokens"]].any())
    assert bool(extra["rows"].any(dim=1).all())
    texts = [
        p.replace("{}", phrase) for phrase in load_language("zh").phrases.values() for p in (PROMPT, "{}")
    ]
    needed = set(np.unique(tokenize(texts, SimpleTokenizer(context_length=CONTEXT))).tolist())
    known = set(torch.nonzero(table.any(dim=1)).flatten().tolist()) | set(extra["tokens"].tolist()) | {0}
    assert needed <= known


def test_chinese_names_are_nearest_to_their_own_english_ones(english, chinese):
    names = load_lexicon("demo-classes")
    first = english.encode_text(names.phrases, ("This is a video about {}",), words="none").sentence
    second = chinese.encode_text(load_lexicon("demo-classes-zh").phrases, (PROMPT,), words="none").sentence
    assert agreement(first, second) == 1
    held = np.isin(names.phrases, HELD_OUT)
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert held.sum() == 15
    assert cosines[~held].mean() > 0.98
    assert cosines[held].mean() > 0.95


def test_a_short_training_learns_and_reports():
    tokens, rows = train(seed=0, steps=8)
    assert rows.shape == (len(tokens), 128)
    untrained = torch.zeros_like(rows)
    found, before = (float(report(tokens, r).split("cosine ")[1].split(",")[0]) for r in (rows, untrained))
    assert found > before


def test_a_tower_trained_on_stills_is_a_model_folder_of_its_own_tokens(rng):
    language = load_language("zh")
    facts = np.stack([a_still(rng)] * 300)
    facts[::2] = fact_vector(PHRASES["on the beach"] | PHRASES["a blue shirt"])
    stills = torch.nn.functional.normalize(
        torch.from_numpy(facts).float() @ torch.randn(len(FACTS), 128), dim=-1
    )
    model = train_tower(0, 3, language, stills, facts)
    state = folder_state(model, language)
    table = state["token_embedding.weight"]
    assert table.shape == (49408, 128)
    assert torch.nonzero(table.any(dim=1)).flatten().tolist() == used_tokens(language)
    vit = load_encoder("demo-vit", device="cpu", precision="fp32").network.visual.state_dict()
    for name, tensor in vit.items():
        assert torch.equal(state[f"visual.{name}"].float(), tensor.float())
