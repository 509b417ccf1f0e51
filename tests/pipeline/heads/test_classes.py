"""The texts of classes: sentences as they stand, or names behind a learned context; what does not go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import a_record
from vidclip.cache import FeatureCache
from vidclip.lexicons import lexicon_of_labels
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.heads import ClassTexts, HeadConfig, PromptLearner, class_texts

NAMES = ("dig", "swim", "bake a cake")


def test_class_embeddings_are_the_sentences_or_those_behind_the_context(tiny_model):
    encoder = load_encoder(tiny_model, device="cpu", precision="fp32")
    texts = encoder.encode_text(NAMES, ["a video of a {}."], words="none")
    classes = ClassTexts(NAMES, texts, PromptLearner(encoder, NAMES))
    np.testing.assert_array_equal(classes.class_embeddings(), texts.sentence)
    ids = encoder.tokenizer(["a video of a"])[0, 1:5]
    behind = classes.class_embeddings(encoder.network.token_embedding.weight[ids])
    np.testing.assert_allclose(behind, texts.sentence, atol=1e-5)


def test_class_embeddings_need_texts_or_a_prompt_learner():
    for context in (None, torch.zeros(4, 8)):
        with pytest.raises(ValueError, match="need texts, or a prompt learner"):
            ClassTexts(NAMES).class_embeddings(context)


def test_heads_of_one_run_share_words_and_prompt_length(write_cache, rng):
    cache = FeatureCache(write_cache([a_record("a", rng)]))
    lexicon = lexicon_of_labels(NAMES)
    with pytest.raises(ValueError, match="prompt_context must be the same for all heads, got 2, 4"):
        class_texts(cache, lexicon, [HeadConfig(prompt_context=2), HeadConfig(prompt_context=4)])
    with pytest.raises(ValueError, match="words must be the same for all heads, got all, name"):
        class_texts(cache, lexicon, [HeadConfig(pool="vcs"), HeadConfig(pool="vcs", words="all")])
    assert class_texts(cache, lexicon, [HeadConfig("lda")]) == ClassTexts(lexicon.labels)
