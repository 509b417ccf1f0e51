"""A second text tower's embeddings are those of transformers itself; its digest is what it does, not where it lies."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from helpers import TINY_CONFIG, a_record, save_model_folder
from text_towers import KINDS, save_text_tower
from vidclip.cache import CacheError, FeatureCache, Identity, list_texts, merge, verify
from vidclip.lexicons import Lexicon
from vidclip.pipeline.encoders import (
    EncoderError,
    WordsUnavailable,
    load_encoder,
    load_text_tower,
    tower_texts,
    transformers_sentences,
)

hf = pytest.importorskip("transformers")

IMAGE_TEXT = [kind for kind in KINDS if kind != "sentences"]
CHINESE = ["踢球", "打篮球", "坐在椅子上"]
ENGLISH = ["a ball", "kicking a ball", "ball"]


def phrases_of(kind: str) -> tuple[list[str], str]:
    return (ENGLISH, "a video of {}.") if kind == "clip" else (CHINESE, "关于{}的视频")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {kind: save_text_tower(tmp_path_factory.mktemp("towers") / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def towers(folders):
    return {kind: load_text_tower(folder) for kind, folder in folders.items()}


def own_network(folder: Path, kind: str):
    """The whole model as transformers loads it, and its tokenizer."""
    name = {
        "chinese-clip": "ChineseCLIPModel",
        "altclip": "AltCLIPModel",
        "clip": "CLIPModel",
        "taiyi": "BertForSequenceClassification",
        "sentences": "BertModel",
    }[kind]
    return getattr(hf, name).from_pretrained(folder).eval(), hf.AutoTokenizer.from_pretrained(folder)


def own_sentences(network, kind: str, tokens) -> np.ndarray:
    with torch.inference_mode():
        if kind == "taiyi":
            return network(**tokens).logits.numpy()
        if kind == "sentences":
            return network(**tokens).last_hidden_state[:, 0].numpy()
        features = network.get_text_features(**tokens)
        return getattr(features, "pooler_output", features).numpy()  # a tensor before transformers 5


# --- sentences


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_equal_those_of_transformers(folders, towers, kind):
    phrases, prompt = phrases_of(kind)
    found = towers[kind].encode_text(phrases, (prompt,), words="none")
    network, tokenizer = own_network(folders[kind], kind)
    for phrase, embedding in zip(phrases, found.sentence, strict=True):  # one by one: nothing is padded
        tokens = tokenizer(prompt.replace("{}", phrase), return_tensors="pt")
        assert_allclose(embedding, own_sentences(network, kind, tokens)[0], atol=1e-5)
    assert found.sentence.dtype == np.float32
    assert found.sentence.shape == (3, towers[kind].dimension) == (3, 24 if kind == "sentences" else 16)
    assert np.abs(found.sentence[0] - found.sentence[1]).max() > 1e-2, "the weights tell texts apart"
    assert found.words.shape == (0, towers[kind].dimension)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_embedding(towers, kind):
    tower = towers[kind]
    phrases, prompt = phrases_of(kind)
    words = "all" if tower.has_words else "none"
    together = tower.encode_text(phrases, (prompt,), words=words)
    alone = [tower.encode_text([phrase], (prompt,), words=words) for phrase in phrases]
    assert_allclose(together.sentence, np.concatenate([one.sentence for one in alone]), atol=1e-6)
    assert_allclose(together.words, np.concatenate([one.words for one in alone]), atol=1e-6)
    batches = tower.encode_text(phrases, (prompt,), words=words, batch_size=2)
    assert_allclose(batches.sentence, together.sentence, atol=1e-6)
    assert_allclose(batches.words, together.words, atol=1e-6)


def test_taiyi_without_the_mask_would_depend_on_its_batch(folders):
    """The twin: what its card does, and this project does not."""
    network, tokenizer = own_network(folders["taiyi"], "taiyi")
    with torch.inference_mode():
        alone, padded = (
            network(tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]).logits[0].numpy()
            for texts in (CHINESE[:1], CHINESE)
        )
    assert np.abs(alone - padded).max() > 1e-2


def test_prompts_are_averaged_as_clips_are(towers):
    tower, prompts = towers["chinese-clip"], ("{}", "关于{}的视频")
    each = [tower.encode_text(CHINESE, (prompt,), words="none").sentence for prompt in prompts]
    mean = sum(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in each)
    found = tower.encode_text(CHINESE, prompts, words="none").sentence
    assert_allclose(found, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("kind", "room"), [("taiyi", 18), ("altclip", 16), ("clip", 18)])
def test_longer_phrases_are_cut_and_named(towers, kind, room):
    """`room` tokens beside the two special ones: AltCLIP's first two positions are those of padding."""
    first, token = ("a", " a") if kind == "clip" else ("踢", "球")
    fits, longer = first + token * (room - 1), first + token * room
    found = towers[kind].encode_text([fits, longer], words="sentence")
    assert found.truncated == (longer,)
    assert np.diff(found.offsets).tolist() == [room, room]
    assert_allclose(found.sentence[0], found.sentence[1], atol=1e-6)


# --- words


def own_states(network, kind: str, tokens) -> np.ndarray:
    """Embeddings [L, D] of every position of one text, by hand."""
    with torch.inference_mode():
        if kind == "taiyi":
            states = network.bert(**tokens).last_hidden_state[0]
            dense, classifier = network.bert.pooler.dense, network.classifier
            pooled = torch.tanh(states @ dense.weight.T + dense.bias)
            return (pooled @ classifier.weight.T + classifier.bias).numpy()
        states = network.text_model(**tokens).last_hidden_state[0]
        return (states @ network.text_projection.weight.T).numpy()


# Of 踢球 in 关于{}的视频 and of "kicking a ball" in "a video of {}.": which positions are its words, and which text.
POSITIONS = {
    "chinese-clip": ([3, 4], range(1, 8), range(9)),  # [CLS] 关 于 踢 球 的 视 频 [SEP]
    "taiyi": ([3, 4], range(1, 8), range(9)),
    "altclip": ([2, 3], range(1, 6), range(7)),  # <s> ▁关于 踢 球 的 视频 </s>
    "clip": ([4, 5, 6], range(1, 8), range(9)),  # <start> a video of kicking a ball . <end>
}


@pytest.mark.parametrize("kind", IMAGE_TEXT)
def test_words_are_the_embeddings_of_their_positions(folders, towers, kind):
    phrases, prompt = phrases_of(kind)
    own = phrases[1] if kind == "clip" else phrases[0]
    network, tokenizer = own_network(folders[kind], kind)
    tokens = tokenizer(prompt.replace("{}", own), return_tensors="pt")
    every = own_states(network, kind, tokens)
    c = phrases.index(own)
    for words, positions in zip(("name", "sentence", "all"), POSITIONS[kind], strict=True):
        found = towers[kind].encode_text(phrases, (prompt,), words=words)  # padded: phrases differ in length
        assert found.word_mode == words
        assert_allclose(
            found.words[found.offsets[c] : found.offsets[c + 1]], every[list(positions)], atol=1e-5
        )


@pytest.mark.parametrize("kind", ["chinese-clip", "altclip", "taiyi"])
def test_a_character_that_the_vocabulary_lacks_is_a_word(towers, kind):
    found = towers[kind].encode_text(["踢鼓", "踢"], ("关于{}的视频",))
    assert np.diff(found.offsets).tolist() == [2, 1]


def test_a_phrase_without_prompt_has_no_word_for_the_space_before_it(towers):
    """Sentencepiece puts a space before the first letter: 球 comes as ▁ and 球, and ▁踢 is one piece."""
    found = towers["altclip"].encode_text(["球", "踢球"])
    assert np.diff(found.offsets).tolist() == [1, 2]


def test_a_slow_tokenizer_gives_the_same_words(folders, towers, monkeypatch):
    """One that does not say where its tokens lie in the text."""
    tower, prompts, modes = towers["chinese-clip"], ("关于{}的视频",), ("name", "sentence", "all")
    expected = [tower.encode_text(CHINESE, prompts, words=words) for words in modes]
    monkeypatch.setattr(type(hf.AutoTokenizer.from_pretrained(folders["chinese-clip"])), "is_fast", False)
    for words, same in zip(modes, expected, strict=True):
        found = tower.encode_text(CHINESE, prompts, words=words)
        np.testing.assert_array_equal(found.offsets, same.offsets)
        np.testing.assert_array_equal(found.words, same.words)


def test_a_sentence_encoder_has_no_words(towers, folders):
    tower = towers["sentences"]
    assert not tower.has_words
    with pytest.raises(WordsUnavailable, match="is a sentence encoder, and has no word embeddings"):
        tower.encode_text(CHINESE)
    found = tower.encode_text(CHINESE, ("关于{}的视频",), words="none").sentence
    assert_allclose(found, transformers_sentences(folders["sentences"], CHINESE, "关于{}的视频"), atol=1e-6)


# --- what it is


def test_relations_are_those_of_the_folders(towers, tiny_model):
    assert {kind: tower.relation for kind, tower in towers.items()} == {
        **dict.fromkeys(IMAGE_TEXT, "related"),
        "sentences": "foreign",
    }
    assert all(towers[kind].has_words for kind in IMAGE_TEXT)
    identity = Identity(load_encoder(tiny_model, device="cpu").identity, {}, "")
    assert load_text_tower(tiny_model).relation == "related"
    assert load_text_tower(tiny_model, cache_identity=identity).relation == "same"
    other = Identity({**identity.encoder, "weights_sha256": "0"}, {}, "")
    assert load_text_tower(tiny_model, cache_identity=other).relation == "related"


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_is_of_the_text_side_wherever_it_lies(folders, towers, tmp_path, kind):
    from safetensors.torch import load_file, save_file

    digest = towers[kind].digest
    moved = shutil.copytree(folders[kind], tmp_path / "moved" / "elsewhere")
    assert load_text_tower(moved).digest == digest

    document = json.loads((moved / "config.json").read_text())
    harmless = {"_name_or_path": "/somewhere", "transformers_version": "4.40.0"}
    (moved / "config.json").write_text(json.dumps({**document, **harmless}))
    weights = load_file(moved / "model.safetensors")
    side = [name for name in weights if name.startswith(("vision_model.", "visual_projection."))]
    others = {name: weights[name] + 1 for name in side}
    save_file({**weights, **others}, moved / "model.safetensors", {"format": "pt"})
    assert load_text_tower(moved).digest == digest

    shaping = [name for name in weights if name not in side and "pooler" not in name and "logit" not in name]
    for name in (shaping[0], shaping[-1]):
        changed = {**weights, name: weights[name] + 0.1}
        save_file(changed, moved / "model.safetensors", {"format": "pt"})
        assert load_text_tower(moved).digest != digest, name
    save_file(weights, moved / "model.safetensors", {"format": "pt"})

    text = document.get("text_config", document)
    text["layer_norm_eps"] = 1e-3
    (moved / "config.json").write_text(json.dumps(document))
    assert load_text_tower(moved).digest != digest


@pytest.mark.parametrize("kind", ["chinese-clip", "altclip"])
def test_the_digest_changes_with_the_vocabulary(folders, towers, tmp_path, kind):
    moved = shutil.copytree(folders[kind], tmp_path / "moved")
    name = "vocab.txt" if kind == "chinese-clip" else "tokenizer.json"
    text = (moved / name).read_text(encoding="utf-8")
    text = text.replace("坐", "躺")  # in none of the texts that tell tokenizers apart
    (moved / name).write_text(text, encoding="utf-8")
    assert load_text_tower(moved).digest != towers[kind].digest


def test_the_digest_of_an_open_clip_model_is_that_of_its_text_tower(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_model_folder(tmp_path / "a", TINY_CONFIG)
    digest = load_text_tower(f"local-dir:{folder}").digest
    moved = shutil.copytree(folder, tmp_path / "b")
    weights = load_file(folder / "open_clip_model.safetensors")
    for name in ("visual.proj", "logit_scale"):
        save_file({**weights, name: weights[name] + 1}, moved / "open_clip_model.safetensors")
        assert load_text_tower(f"local-dir:{moved}").digest == digest, name
    for name in ("text_projection", "token_embedding.weight", "ln_final.bias"):
        save_file({**weights, name: weights[name] + 1}, moved / "open_clip_model.safetensors")
        assert load_text_tower(f"local-dir:{moved}").digest != digest, name


def test_an_open_clip_model_embeds_as_its_encoder(tiny_model):
    tower, encoder = load_text_tower(tiny_model), load_encoder(tiny_model, device="cpu", precision="fp32")
    found, expected = (each.encode_text(ENGLISH, ("a video of {}",)) for each in (tower, encoder))
    np.testing.assert_array_equal(found.sentence, expected.sentence)
    np.testing.assert_array_equal(found.words, expected.words)
    assert (tower.dimension, tower.has_words, tower.name) == (32, True, encoder.name)


def test_a_name_of_open_clip_is_no_folder_beside(folders, tmp_path, monkeypatch):
    shutil.copytree(folders["taiyi"], tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert load_text_tower("demo").dimension == 128
    assert load_text_tower("./demo").dimension == load_text_tower(Path("demo")).dimension == 16


# --- refusals


def copy_of(folders, kind, tmp_path) -> Path:
    return shutil.copytree(folders[kind], tmp_path / "hostile")


def change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def eager_user(monkeypatch):
    """Somebody who answers every question at the terminal with yes, and has lifted what variables can lift."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


@pytest.mark.parametrize("kind", ["chinese-clip", "taiyi"])
def test_code_of_a_folder_is_not_run(folders, tmp_path, eager_user, kind):
    folder = copy_of(folders, kind, tmp_path)
    mark = folder / "CODE-WAS-RUN"
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import BertConfig\nclass Own(BertConfig): pass\n"
    )
    change(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}
    )
    with pytest.raises(ValueError, match=f"text encoder in {folder} cannot be read"):
        load_text_tower(folder)
    assert not mark.exists()
    assert sys.stdin.tell() == 0, "nobody was asked"
    with pytest.raises(Exception):  # noqa: B017 (the twin: the folder is dangerous)
        hf.AutoModel.from_pretrained(folder, trust_remote_code=True)
        raise RuntimeError
    assert mark.exists()


class _Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_is_tensors_only(folders, tmp_path, eager_user, kind):
    from safetensors.torch import load_file

    folder = copy_of(folders, kind, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    load_text_tower(folder)  # as it is, it loads
    mark = folder / "CODE-WAS-RUN"
    torch.save({**weights, "x": _Code(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=f"text encoder in {folder} cannot be read"):
        load_text_tower(folder)
    assert not mark.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)  # the twin
    assert mark.exists()


@pytest.mark.parametrize("kind", IMAGE_TEXT)
def test_rejects_weights_without_the_projection(folders, tmp_path, kind):
    from safetensors.torch import load_file, save_file

    folder = copy_of(folders, kind, tmp_path)
    weights = load_file(folder / "model.safetensors")
    last = "classifier.weight" if kind == "taiyi" else "text_projection.weight"
    del weights[last]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=f"lack 1 of the encoder's tensors, {last} the first"):
        load_text_tower(folder)


def test_taiyi_needs_its_pooler(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of(folders, "taiyi", tmp_path)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 2 of the encoder's tensors, bert\.pooler\.dense\.bias"):
        load_text_tower(folder)


def test_rejects_what_is_no_tower(folders, tmp_path, tiny_model):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        load_text_tower(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"lacks config\.json"):
        load_text_tower(tmp_path)
    place = Path(tiny_model.partition(":")[2])
    with pytest.raises(ValueError, match=f"it is given as local-dir:{place}"):
        load_text_tower(place)
    with pytest.raises(ValueError, match="is a folder, which brings its weights; leave openai out"):
        load_text_tower(folders["taiyi"], "openai")
    with pytest.raises(EncoderError, match="ViT-B-16 needs weights|neither a file nor weights"):
        load_text_tower("ViT-B-16", "no-such-tag")
    with pytest.raises(ValueError, match="image-text model; save its text model by itself"):
        transformers_sentences(folders["chinese-clip"], CHINESE)

    folder = copy_of(folders, "chinese-clip", tmp_path)
    change(folder / "config.json", model_type="siglip")
    with pytest.raises(ValueError, match="of the kind siglip; those of chinese_clip, altclip, clip can be"):
        load_text_tower(folder)
    change(folder / "config.json", model_type="chinese_clip", quantization_config={"load_in_8bit": True})
    with pytest.raises(ValueError, match="its weights are quantized"):
        load_text_tower(folder)


def test_rejects_an_encoder_whose_first_token_sees_no_other(tmp_path):
    """CLIP's text model by itself: its first token is the same in all texts."""
    folder = save_text_tower(tmp_path / "m", "clip")
    text = hf.CLIPModel.from_pretrained(folder).config.text_config
    (folder / "model.safetensors").unlink()
    hf.CLIPTextModel(text).save_pretrained(folder)
    with pytest.raises(ValueError, match="gives all texts the same embedding"):
        load_text_tower(folder)


# --- in a cache


class Unloadable:
    """A tower that is known by its digest alone."""

    def __init__(self, tower) -> None:
        self.digest, self.name = tower.digest, tower.name

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")


@pytest.mark.parametrize("kind", ["chinese-clip", "sentences"])
def test_a_cache_keeps_the_texts_of_a_tower(towers, write_cache, rng, tmp_path, kind):
    cache = FeatureCache(write_cache([a_record("a", rng), a_record("b", rng)]))
    lexicon = Lexicon("demo-zh", tuple(CHINESE), tuple(CHINESE))
    words, prompts = ("name" if towers[kind].has_words else "none"), ("关于{}的视频",)
    first = tower_texts(cache, lexicon, towers[kind], prompts, words=words)
    (stored,) = list_texts(cache.folder)
    assert (stored.lexicon, stored.word_mode, stored.tower) == ("demo-zh", words, towers[kind].name)
    again = tower_texts(cache, lexicon, Unloadable(towers[kind]), prompts, words=words)
    for name in ("phrases", "prompts", "word_mode", "truncated"):
        assert getattr(again, name) == getattr(first, name)
    np.testing.assert_array_equal(again.sentence, first.sentence)
    np.testing.assert_array_equal(again.words, first.words)

    assert not [problem for checked in verify(cache.folder) for problem in checked.problems]
    merge([cache.folder], tmp_path / "joined")
    joined = FeatureCache(tmp_path / "joined")
    tower_texts(joined, lexicon, Unloadable(towers[kind]), prompts, words=words)
    stored.path.write_bytes(stored.path.read_bytes()[:-1])
    with pytest.raises(CacheError):
        tower_texts(cache, lexicon, Unloadable(towers[kind]), prompts, words=words)
    assert [checked.path for checked in verify(cache.folder) if checked.problems] == [stored.path]
