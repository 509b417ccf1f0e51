"""The class embeddings of a training: of its own text tower, frozen or trained, behind a learned prompt, of another
encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import save_text_encoder, vidclip
from vidclip.lexicons import lexicon_of_labels
from vidclip.pipeline import load_encoder, load_head
from vidclip.pipeline.encoders import EncoderLoader, transformers_sentences
from vidclip.pipeline.finetune import FinetuneError, Finetuning, World
from vidclip.pipeline.heads import HeadError, PromptLearner, head_over
from vidclip.pipeline.video import ClipSpec, Sampling, VideoRequest, decode_video

PROMPTS = ("a video of {}", "{}, an action", "somebody does {} today")
ONCE: dict[str, Any] = {"temporal": "mean", "held_out": 0.0, "epochs": 1}


def pixels_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randint(0, 256, (6, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    return pixels, torch.tensor([0, 1, 2, 2, 1, 0])


def loss_and_gradients(
    training: Finetuning, prompt: int | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    model = training.loop.model.train()
    loss = model(*pixels_and_labels(), prompt)
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


@pytest.mark.parametrize(
    ("name", "prompts", "prompt"),
    [
        ("text4vis", PROMPTS[:1], None),
        ("text4vis", PROMPTS, None),
        ("text4vis", PROMPTS, 1),
        ("bike", PROMPTS, None),
    ],
)
def test_texts_of_every_step_equal_those_computed_once(
    begin: Callable[..., Finetuning], tmp_path: Path, name: str, prompts: tuple[str, ...], prompt: int | None
):
    settings = {**ONCE, "prompts": prompts, "prompt_draw": prompt is not None}
    once, once_gradients = loss_and_gradients(begin(tmp_path / "a", name, **settings), prompt)
    online, gradients = loss_and_gradients(
        begin(tmp_path / "b", name, train="visual+text", **settings), prompt
    )
    assert online == pytest.approx(once, rel=1e-5)
    assert once_gradients.keys() < gradients.keys()
    for key, gradient in once_gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-3, atol=1e-4 * scale, msg=key)


@pytest.mark.parametrize("train", ["visual", "visual+text"])
def test_a_drawn_prompt_is_that_of_its_step_and_all_are_evaluated(
    begin: Callable[..., Finetuning], tmp_path: Path, train: str
):
    settings = {**ONCE, "train": train, "prompts": PROMPTS, "prompt_draw": True, "seed": 1}
    training = begin(tmp_path / "out", **settings)
    alone = [begin(tmp_path / "b", **{**settings, "prompts": (p,), "prompt_draw": False}) for p in PROMPTS]
    losses = [loss_and_gradients(training, p)[0] for p in range(3)]
    assert losses == pytest.approx([loss_and_gradients(each)[0] for each in alone], rel=1e-5)
    assert len({round(loss, 4) for loss in losses}) == 3
    drawn = [training.loop.draw_prompt(step) for step in range(300)]
    assert np.bincount(drawn).min() > 70
    other = begin(tmp_path / "c", world=World(1, 2), **settings).loop
    assert drawn == [other.draw_prompt(step) for step in range(300)]
    seeded = begin(tmp_path / "d", **{**settings, "seed": 2}).loop
    assert drawn != [seeded.draw_prompt(step) for step in range(300)]
    assert alone[0].loop.draw_prompt(0) is None
    training.loop.model.zero_grad()
    training.run()
    encoder = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    stored = load_head(tmp_path / "out" / "head.safetensors")
    assert stored.prompts == PROMPTS
    texts = encoder.encode_text(stored.classes, PROMPTS)
    np.testing.assert_allclose(stored.module.class_embeddings, texts.sentence, atol=1e-5)


@pytest.mark.parametrize("name", ["text4vis", "bike"])
def test_a_learned_prompt_is_trained_and_kept(begin: Callable[..., Finetuning], tmp_path: Path, name: str):
    """Its context alone changes in the text tower; new names stand behind it too."""
    training = begin(tmp_path, name, prompt_context=2, **ONCE)
    groups = {group["name"]: group for group in training.loop.groups}
    context = training.loop.model.context
    assert context is not None
    begun = context.detach().clone()
    assert groups["prompt context"]["params"] == [context]
    assert groups["prompt context"]["lr"] == training.recipe.learning_rate
    before = {k: v.clone() for k, v in training.encoder.network.state_dict().items()}
    training.run()
    encoder = load_encoder(f"local-dir:{tmp_path}", device="cpu", precision="fp32")
    after = encoder.network.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert all(key.startswith("visual.") or key == "logit_scale" for key in changed)
    stored = load_head(tmp_path / "head.safetensors")
    assert stored.context is not None
    assert float((stored.context - begun).abs().min()) > 1e-5
    with torch.no_grad():
        expected = PromptLearner(encoder, stored.classes, 2)(stored.context)
    torch.testing.assert_close(stored.module.class_embeddings, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    words = ["a", "video", "of", "person", "juggling", "rowing", "yoga", "."]
    return save_text_encoder(tmp_path_factory.mktemp("bert"), words)


def test_classes_of_another_text_encoder(
    begin: Callable[..., Finetuning], tmp_path: Path, bert_folder: Path, labeled_videos: Path
):
    """Of 24 dimensions, where the tower has 32: a projection is trained; the folder predicts by the formula."""
    training = begin(tmp_path / "out", text_encoder=str(bert_folder), **ONCE)
    rows = training.loop.model.head.class_embeddings.clone()
    [prompt] = training.recipe.prompts
    np.testing.assert_allclose(
        rows, transformers_sentences(bert_folder, training.videos.lexicon.phrases, prompt), atol=1e-6
    )
    training.run()
    name, head = f"local-dir:{tmp_path / 'out'}", tmp_path / "out" / "head.safetensors"
    stored = load_head(head)
    assert torch.equal(stored.module.class_embeddings, rows)
    video = labeled_videos / "yoga" / "0.mp4"
    told = vidclip(
        "predict", video, "--model", name, "--head", head, "--workers", 1, "--device", "cpu", "--json", "-"
    )
    assert told.returncode == 0, told.stderr
    [prediction] = json.loads(told.stdout)["predictions"]
    encoder = load_encoder(name, device="cpu", precision="fp32")
    clip = decode_video(VideoRequest(video), ClipSpec(Sampling(3), encoder.preprocess)).pixels[0]
    frames = encoder.encode_frames(torch.from_numpy(clip)).double()
    matrix = stored.module.get_parameter("projection.matrix").detach().double()
    cosines = F.normalize(frames.mean(dim=0) @ matrix, dim=0) @ F.normalize(rows.double(), dim=1).T
    expected = torch.softmax(cosines / stored.temperature, dim=0)
    expected = dict(zip(stored.classes, expected.tolist(), strict=True))
    assert {each["label"]: each["probability"] for each in prediction["classes"]} == pytest.approx(
        expected, abs=1e-5
    )
    with pytest.raises(HeadError, match="the classes of this classifier are fixed"):
        head_over(stored, lexicon_of_labels(["dancing", "rowing"]), EncoderLoader())


def test_what_takes_no_text_is_named(begin: Callable[..., Finetuning], tmp_path: Path):
    with pytest.raises(FinetuneError, match="--prompt-context 19: a prompt of 19 tokens leaves no room"):
        begin(tmp_path, prompt_context=19, **ONCE)
    with pytest.raises(FinetuneError, match=f"--text-encoder: {tmp_path} lacks config.json"):
        begin(tmp_path / "out", text_encoder=str(tmp_path), **ONCE)
