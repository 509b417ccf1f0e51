"""Class names as a Hugging Face text encoder embeds them, against its own arithmetic."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from helpers import save_text_encoder
from vidclip.pipeline.encoders import transformers_sentences

NAMES = ["archery", "baby crawling", "clapping", "diving", "eating"]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    pytest.importorskip("transformers")
    words = sorted({word for name in NAMES for word in name.split()} | {"a", "video", "of"})
    return save_text_encoder(tmp_path_factory.mktemp("bert"), words)


def test_names_are_encoded_as_one_by_one_without_padding(bert_folder):
    from transformers import DistilBertModel

    encoder = DistilBertModel.from_pretrained(bert_folder).eval()
    vocabulary = (bert_folder / "vocab.txt").read_text().split("\n")
    expected = []
    for name in NAMES:
        ids = [vocabulary.index(word) for word in ["[CLS]", "a", "video", "of", *name.split(), "[SEP]"]]
        with torch.inference_mode():
            states = encoder(torch.tensor([ids])).last_hidden_state[0].numpy()
        expected.append(states[0])
    before = torch.random.get_rng_state()
    found = transformers_sentences(bert_folder, NAMES, "a video of {}", batch_size=2)
    assert found.shape == (5, 24)
    assert found.dtype == np.float32
    assert_allclose(found, expected, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rejects_folders_and_names_that_cannot_be_encoded(bert_folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        transformers_sentences(tmp_path / "nowhere", NAMES)
    with pytest.raises(FileNotFoundError, match=r"lacks config\.json"):
        transformers_sentences(tmp_path, NAMES)
    (tmp_path / "config.json").write_bytes((bert_folder / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match="lacks weights"):
        transformers_sentences(tmp_path, NAMES)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileNotFoundError, match="lacks a tokenizer"):
        transformers_sentences(tmp_path, NAMES)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((bert_folder / name).read_bytes())
    with pytest.raises(ValueError, match=f"text encoder in {tmp_path} cannot be read"):
        transformers_sentences(tmp_path, NAMES)
    with pytest.raises(ValueError, match="48 tokens, and the encoder in .* reads at most 40"):
        transformers_sentences(bert_folder, NAMES[:1], 15 * "a video of " + "{}")
    with pytest.raises(ValueError, match="a prompt needs one {}"):
        transformers_sentences(bert_folder, NAMES, "a video")

    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'vidclip\[hf\]'"):
        transformers_sentences(bert_folder, NAMES)


def test_rejects_weights_of_another_model(bert_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in bert_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(bert_folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 16 of the encoder's tensors, transformer\.layer\.1"):
        transformers_sentences(tmp_path, NAMES)
