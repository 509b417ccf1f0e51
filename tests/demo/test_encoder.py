"""The packaged encoder and the parts of its training."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file

import vidclip.demo
from vidclip.demo.actions import ACTIONS
from vidclip.demo.captions import FACTS, make_caption
from vidclip.demo.render import render_still
from vidclip.demo.stills import sample_still, still_batch
from vidclip.demo.tokens import CONTEXT, WordTokens, token_batch
from vidclip.demo.train import (
    CONFIG,
    DELAY,
    MODEL_CONFIG,
    FactReader,
    as_input,
    contrast,
    embed_captions,
    rendered,
    save,
    text_states,
    twice,
)
from vidclip.demo.world import video_scene
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.evaluation import classification_metrics
from vidclip.pipeline.scoring import (
    ConceptSpotter,
    ConceptSpottingConfig,
    cosine_scores,
    l2_normalize,
    mean_embeddings,
)

FOLDER = Path(vidclip.demo.__file__).parent / "encoder"
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def encoder():
    torch.set_num_threads(1)
    return load_encoder("demo", device="cpu", precision="fp32")


def embedded(encoder, pictures):
    """L2-normalized frame embeddings [N, D] of pictures [S, S, 3]."""
    pixels = np.concatenate([encoder.preprocess.pixels(picture) for picture in pictures])
    return l2_normalize(encoder.encode_frames(torch.from_numpy(pixels)).numpy())


def sampled_frames(action, seed, kind, n):
    """The frames floor(i L / n) of a video, straight from the renderer."""
    scene, moments = video_scene(action, seed, kind)
    return [render_still(scene, moments[i * len(moments) // n]) for i in range(n)]


def test_it_stays_small():
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20 * MEGABYTE
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) < 6 * MEGABYTE


def test_open_clip_needs_nothing_but_the_folder(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "elsewhere")
    name = f"local-dir:{tmp_path / 'elsewhere'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["kicking a ball"])
    assert tokens.shape == (1, CONTEXT)
    assert model.encode_text(tokens).shape == (1, 128)
    assert "64" in str(preprocess)
    assert json.loads((FOLDER / "open_clip_config.json").read_text()) == CONFIG


def test_rows_of_unused_tokens_are_zero():
    table = load_file(FOLDER / "open_clip_model.safetensors")["token_embedding.weight"]
    filled = (table != 0).any(dim=1).nonzero().flatten().tolist()
    assert table.shape[0] == 49408
    assert filled == WordTokens().used


def test_it_recognizes_what_it_was_trained_for(encoder):
    """Four frames of one validation video a class; the numbers on all frames of many videos are in the model card."""
    texts = encoder.encode_text([action.name for action in ACTIONS], ["a video of a person {}."])
    pictures = [f for a in ACTIONS for f in sampled_frames(a, 10_000, "trimmed", 4)]
    frames = embedded(encoder, pictures).reshape(len(ACTIONS), 4, -1)
    mean = cosine_scores(mean_embeddings(frames[:, None]), texts.sentence)
    spotted = ConceptSpotter(texts, ConceptSpottingConfig(temperature=0.1)).scores(frames)
    seen = np.array([i for i, action in enumerate(ACTIONS) if action.seen])
    unseen = np.array([i for i, action in enumerate(ACTIONS) if not action.seen])

    def among(scores, classes):
        return classification_metrics(scores[np.ix_(classes, classes)], np.arange(len(classes))).top1

    assert among(mean, seen) >= SEEN_FLOOR
    assert among(mean, unseen) >= UNSEEN_FLOOR
    assert among(spotted, seen) >= SEEN_FLOOR
    assert among(mean[:, ::-1], seen) < 20  # chance is 2


SEEN_FLOOR, UNSEEN_FLOOR = 85, 60


def test_captions_are_tokenised_as_open_clip_does():
    tokens = WordTokens()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    rng = np.random.default_rng(0)
    for _ in range(300):
        caption = make_caption(sample_still(rng)[2], rng)
        mine, ends = tokens.caption(caption)
        assert mine == tokenizer([caption.text])[0][: len(mine)].tolist(), caption.text
        assert len(ends) == len(caption.words)


def test_training_reads_text_as_open_clip_does(encoder):
    tokens = encoder.tokenizer(["This is a video about a ball,on the beach,kicking", "a dog"])
    ends = tokens.argmax(dim=1)
    with torch.no_grad():
        states = text_states(encoder.network, tokens[:, : int(ends.max()) + 1])
        assert_allclose(states[torch.arange(2), ends], encoder.network.encode_text(tokens), atol=1e-4)


def test_groups_of_captions_keep_their_order(encoder):
    batch = still_batch(16, 0, 0)
    text = token_batch(batch, WordTokens(), np.random.default_rng(0))
    with torch.no_grad():
        sentences, words = embed_captions(encoder.network, text, "cpu")
        states = torch.nn.functional.normalize(text_states(encoder.network, text.tokens), dim=-1)
    rows = torch.arange(16)
    assert_allclose(sentences, states[rows, text.ends], atol=1e-5)
    assert_allclose(words, states[rows, text.words], atol=1e-5)


def test_batches_are_rendered_ahead_in_order():
    batches = list(rendered(7, 5, 1, size=4))
    assert len(batches) == 7
    for index in (0, 6):
        assert (batches[index].images == still_batch(4, 5, index).images).all()


def test_stills_come_twice_the_second_time_mirrored():
    fresh = [still_batch(2, 0, index) for index in range(DELAY + 1)]
    (batch,) = twice(iter(fresh))
    assert (batch.images[:2] == fresh[-1].images).all()
    assert (batch.images[2:] == fresh[0].images[:, :, ::-1]).all()
    assert batch.captions == fresh[-1].captions + fresh[0].more_captions
    assert (batch.facts[2:] == fresh[0].facts).all()


def test_pairs_are_never_read_off_embeddings_as_such():
    reader = FactReader(16)
    facts = torch.zeros(1, len(FACTS))
    embedding = torch.nn.functional.normalize(torch.randn(1, 16), dim=-1)
    before = reader.loss(embedding, facts)
    facts[0, FACTS.index("pair:kicking a ball")] = 1
    assert reader.loss(embedding, facts) == before
    facts[0, FACTS.index("verb:kicking")] = 1
    assert reader.loss(embedding, facts) != before


def test_saving_keeps_the_embeddings(tmp_path):
    torch.manual_seed(0)
    words = WordTokens()
    config = {**MODEL_CONFIG, "text_cfg": {**MODEL_CONFIG["text_cfg"], "vocab_size": len(words.used)}}
    model = open_clip.CLIP(**config).eval()
    save(model, words, tmp_path)
    loaded = load_encoder(f"local-dir:{tmp_path}", device="cpu", precision="fp32")
    caption = make_caption(sample_still(np.random.default_rng(0))[2], np.random.default_rng(0))
    compact = torch.tensor([[words.used.index(token) for token in words.caption(caption)[0]]])
    with torch.no_grad():
        mine = torch.nn.functional.normalize(text_states(model, compact)[0, -1], dim=-1)
        images = as_input(still_batch(2, 0, 0).images, "cpu")
        seen = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
    assert_allclose(
        l2_normalize(loaded.encode_text([caption.text]).sentence)[0], mine, atol=2e-3
    )  # float16 on disk
    assert_allclose(embedded(loaded, list(still_batch(2, 0, 0).images)), seen, atol=2e-3)


def test_captions_are_true_of_their_own_still():
    text = token_batch(still_batch(32, 0, 1), WordTokens(), np.random.default_rng(0))
    assert text.sentence_true.diagonal().all()
    assert text.word_true.diagonal().all()
    assert (text.word_true | ~text.sentence_true).all()  # what a part asserts is true wherever the whole is
    assert text.sentence_true.float().mean() < 0.5


def test_true_captions_of_other_stills_do_not_count_against_it():
    one, two = torch.eye(2)
    images, scale = torch.stack([one, one]), torch.tensor(100.0)
    texts = torch.stack([one, one])
    every = torch.ones(2, 2, dtype=torch.bool)
    assert contrast(images, texts, every, scale).item() == pytest.approx(0, abs=1e-6)
    own = torch.eye(2, dtype=torch.bool)
    assert contrast(images, texts, own, scale).item() == pytest.approx(np.log(2), rel=1e-5)
    assert contrast(torch.stack([one, two]), torch.stack([one, two]), own, scale).item() == pytest.approx(
        0, abs=1e-6
    )
