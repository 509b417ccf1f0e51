"""A learned prompt whose vectors are those of real words is a prompt of these words; the tower stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from helpers import TINY_CONFIG, save_hugging_face_model, save_model_folder
from vidclip.pipeline.encoders import EncoderError, load_encoder
from vidclip.pipeline.heads import PromptLearner, PromptUnavailable

NAMES = ["climbing a wall", "video", "playing the harp (outside)", "!!", "tai chi"]
PROMPT = "a video of a {}."


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu", precision="fp32")


def sentences(encoder, phrases, prompt=PROMPT):
    return encoder.encode_text(phrases, [prompt], words="none").sentence


def save_with_siglip_tokenizer(folder: Path) -> str:
    """A CLIP whose tokenizer is of SigLIP's kind (no start token, pads with its end token, drops punctuation), with
    open_clip's tower as SigLIP has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", "[SEP]", "a", "video", "of", "climbing", "wall", ".", "x"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("$A [SEP]", special_tokens=[("[SEP]", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[SEP]", unk_token="[UNK]", eos_token="[SEP]"
    ).save_pretrained(folder)
    text_cfg = {
        "hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"clean": "canonicalize"}, "vocab_size": len(words),
        "context_length": 16, "width": 24, "heads": 2, "layers": 2, "no_causal_mask": True, "proj_bias": True,
        "pool_type": "last",
    }  # fmt: skip
    config = {**TINY_CONFIG, "text_cfg": text_cfg, "custom_text": True}
    return f"local-dir:{save_model_folder(folder, config)}"


def own_tower(folder: Path, **text_cfg) -> str:
    """open_clip's own tower in `model.text`."""
    config = {**TINY_CONFIG, "custom_text": True, "text_cfg": {**TINY_CONFIG["text_cfg"], **text_cfg}}
    return f"local-dir:{save_model_folder(folder, config)}"


TOWERS = {
    "plain": None,
    "causal": lambda folder: own_tower(folder),
    "pools at eos": lambda folder: own_tower(folder, pool_type="eos", eos_id=49407),
    "pools at the end": lambda folder: own_tower(folder, no_causal_mask=True, pool_type="last"),
    "class token": lambda folder: own_tower(folder, embed_cls=True),
    "SigLIP's tokenizer": save_with_siglip_tokenizer,
    "Hugging Face": lambda folder: save_hugging_face_model(folder, "mean_pooler"),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_vectors_of_real_words_are_a_prompt_of_these_words(tower, tmp_path, encoder):
    if TOWERS[tower]:
        encoder = load_encoder(TOWERS[tower](tmp_path), device="cpu", precision="fp32")
    network = encoder.network
    if tower == "Hugging Face":
        weights = network.text.transformer.embeddings.word_embeddings.weight
    else:
        weights = getattr(network, "text", network).token_embedding.weight
    first = 0 if tower == "SigLIP's tokenizer" else 1  # behind the start token, where there is one
    before = sentences(encoder, NAMES)
    prompt = PromptLearner(encoder, NAMES)
    random = prompt.initial_context(0)
    assert np.abs(prompt(random).numpy() - before).max() > 1e-4, "random vectors are another prompt"

    ids = encoder.tokenizer(["a video of a"])[0, first : first + 4]
    context = weights[ids].clone().requires_grad_()
    found = prompt(context)
    np.testing.assert_allclose(found.detach(), before, atol=1e-5)

    found.square().sum().backward()
    assert (context.grad.abs().sum(dim=1) > 0).all(), "every vector has a gradient"
    assert all(weight.grad is None for weight in network.parameters())
    np.testing.assert_array_equal(sentences(encoder, NAMES), before, "the tower is as it was")


def by_hand(network, tokens, context):
    """The tower written out from its parts, the context behind the start token, over all positions."""
    embedded = network.token_embedding(tokens)
    length = len(context)
    x = torch.cat([embedded[:, :1], context.expand(len(tokens), -1, -1), embedded[:, 1 + length :]], dim=1)
    x = x + network.positional_embedding
    for block in network.transformer.resblocks:
        x = block(x, attn_mask=network.attn_mask)
    x = network.ln_final(x)[torch.arange(len(tokens)), tokens.argmax(dim=1)]
    return x @ network.text_projection


@pytest.mark.parametrize("batch_size", [64, 2])
def test_values_and_gradients_equal_the_tower_written_out(encoder, batch_size):
    prompt = PromptLearner(encoder, NAMES, 3, batch_size=batch_size)
    assert prompt.width == 32
    context = prompt.initial_context(5).requires_grad_()
    leaf = context.detach().clone().requires_grad_()
    expected = by_hand(encoder.network, encoder.tokenizer([f"so so so {name}." for name in NAMES]), leaf)
    found = prompt(context)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.linspace(-1, 2, expected.numel()).view_as(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(context.grad, leaf.grad, rtol=1e-3, atol=1e-4)


def test_a_prompt_is_trained_through_the_demo_encoder():
    encoder = load_encoder("demo", device="cpu", precision="fp32")
    prompt = PromptLearner(encoder, ["red ball", "blue square"])
    context = prompt.initial_context(0).requires_grad_()
    aims = torch.nn.functional.normalize(
        torch.from_numpy(sentences(encoder, ["green star", "yellow ring"])), dim=1
    )

    def loss():
        return 1 - torch.nn.functional.cosine_similarity(prompt(context), aims).mean()

    first = loss().item()
    optimizer = torch.optim.Adam([context], lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert loss().item() < first - 0.05


def test_the_seed_decides_the_initial_context(encoder):
    prompt = PromptLearner(encoder, NAMES, 8)
    first, same, other = (prompt.initial_context(seed) for seed in (7, 7, 8))
    assert first.shape == (8, 32)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert 0.015 < float(first.std()) < 0.025


def test_prompt_is_computed_in_fp32(encoder, tiny_model):
    prompt = PromptLearner(encoder, NAMES)
    context = prompt.initial_context(0)
    expected = prompt(context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prompt(context)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    low = load_encoder(tiny_model, device="cpu", precision="bf16")
    with pytest.raises(PromptUnavailable, match="trained in fp32, and local-dir:.* is in bf16"):
        PromptLearner(low, NAMES)


def test_batches_change_nothing_without_gradient(encoder):
    whole, small = PromptLearner(encoder, NAMES), PromptLearner(encoder, NAMES, batch_size=2)
    context = whole.initial_context(0)
    with torch.inference_mode():
        torch.testing.assert_close(small(context), whole(context))


def test_an_error_inside_leaves_the_tower_as_it_was(encoder, monkeypatch):
    before = sentences(encoder, NAMES)
    prompt = PromptLearner(encoder, NAMES)
    with monkeypatch.context() as patch:

        def fail(*_arguments, **_options):
            raise RuntimeError("out of memory")

        patch.setattr(encoder.network.transformer, "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            prompt(prompt.initial_context(0))
    np.testing.assert_array_equal(sentences(encoder, NAMES), before)


def test_names_longer_than_the_context_are_named(encoder):
    long = "kicking a ball " * 10
    prompt = PromptLearner(encoder, ["short", long, long])
    assert prompt.truncated == (long,)
    assert prompt(prompt.initial_context(0)).shape == (3, 32)
    assert PromptLearner(encoder, ["short"]).truncated == ()


def test_rejects_names_and_lengths_that_do_not_fit(encoder):
    with pytest.raises(ValueError, match="no phrases"):
        PromptLearner(encoder, [])
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        PromptLearner(encoder, ["a"], length=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        PromptLearner(encoder, ["a"], batch_size=0)
    for length in (18, 40, 500):
        with pytest.raises(
            ValueError, match=f"prompt of {length} tokens leaves no room for names in the 20 of"
        ):
            PromptLearner(encoder, ["a"], length=length)


def test_rejects_towers_that_take_no_prompt(encoder):
    other = copy.copy(encoder)
    other.network = cast(Any, torch.nn.Linear(2, 2))
    with pytest.raises(PromptUnavailable, match="token embeddings of the text tower Linear cannot be found"):
        PromptLearner(other, NAMES)
    with pytest.raises(PromptUnavailable, match="is put into text towers of open_clip, and x has another"):
        PromptLearner(cast(Any, SimpleNamespace(name="x")), NAMES)
    assert issubclass(PromptUnavailable, EncoderError)

    class Untouched(torch.nn.Module):
        """Has token embeddings, and does not use them."""

        token_embedding = torch.nn.Embedding(49408, 8)

        def encode_text(self, tokens):
            return torch.zeros(len(tokens), 32)

    other.network = cast(Any, Untouched())
    with pytest.raises(PromptUnavailable, match="looked its tokens up 0 times"):
        PromptLearner(other, NAMES)(torch.zeros(4, 8))
