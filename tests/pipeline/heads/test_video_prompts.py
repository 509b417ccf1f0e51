"""X-CLIP's head on its encoder, against transformers' X-CLIP."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from helpers import PREPROCESS_CONFIG, an_identity
from vidclip.cache import CacheWriter, FeatureCache, VideoRecord
from vidclip.lexicons import lexicon_of_labels
from vidclip.pipeline import load_encoder
from vidclip.pipeline.encoders import EncoderLoader, OpenClipEncoder
from vidclip.pipeline.heads import (
    HeadError,
    StoredHead,
    XClipHead,
    head_over,
    load_head,
    save_head,
    scorer_of_head,
    video_prompts,
    x_clip_scorer,
)
from vidclip.pipeline.scoring import scan_scores
from xclip_models import official_state, open_clip_config, tiny_xclip

B = 3
PHRASES = ("juggling", "rowing a boat", "yoga", "archery")
HEAD_PARTS = ("mit.", "prompts_")
MIT_NAMES = {
    "positional_embedding": "positions",
    "resblocks.": "blocks.",
    "attn.in_proj_": "attention_in.",
    "attn.out_proj": "attention_out",
    "ln_1": "attention_norm",
    "ln_2": "mlp_norm",
    "mlp.c_fc": "mlp_in",
    "mlp.c_proj": "mlp_out",
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def folder_of(reference: Any, folder: Path) -> Path:
    """A model folder with the encoder of a model of transformers."""
    folder.mkdir()
    document = {"model_cfg": open_clip_config(reference), "preprocess_cfg": PREPROCESS_CONFIG}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    frames = reference.config.vision_config.num_frames
    tower = {"kind": "cross-frame", "frames": frames, "start": "released"}
    (folder / "vidclip_model.json").write_text(
        json.dumps({"format": "vidclip-model", "version": 1, "tower": tower})
    )
    state = official_state(reference)
    save_file(
        {k: v for k, v in state.items() if not k.startswith(HEAD_PARTS)},
        folder / "open_clip_model.safetensors",
    )
    return folder


def head_of(reference: Any, texts: Any) -> XClipHead:
    """Its head over the classes of these texts."""
    vision = reference.config.vision_config
    head = XClipHead(
        texts.sentence,
        vision.num_frames,
        vision.hidden_size,
        heads=vision.mit_num_attention_heads,
        prompt_heads=reference.config.prompt_num_attention_heads,
    )
    state = {"class_embeddings": head.class_embeddings}
    for name, tensor in official_state(reference).items():
        if name.startswith("mit."):
            for official, own in MIT_NAMES.items():
                name = name.replace(official, own)
            state[name] = tensor[0] if name == "mit.positions" else tensor
        elif name.startswith("prompts_"):
            state[name] = tensor
    head.load_state_dict(state)
    return head.eval().requires_grad_(False)


def pixels_of(frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (B, frames, 32, 32, 3), generator=generator).byte()


def reference_inputs(encoder: OpenClipEncoder, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    mean, std = (torch.tensor(PREPROCESS_CONFIG[name]) for name in ("mean", "std"))
    images = ((pixels / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    return {"pixel_values": images, "input_ids": encoder.tokenizer(list(PHRASES))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], tuple[Any, OpenClipEncoder, Any]]:
    def make(frames: int, heads: int) -> tuple[Any, OpenClipEncoder, Any]:
        reference = tiny_xclip(frames, heads)
        folder = folder_of(reference, tmp_path_factory.mktemp("x") / "m")
        encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
        return reference, encoder, head_of(reference, encoder.encode_text(PHRASES))

    return make


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize(("frames", "heads"), [(4, 1), (8, 2)])
def test_logits_and_embeddings_equal_those_of_transformers(made: Any, frames: int, heads: int):
    reference, encoder, head = made(frames, heads)
    pixels = pixels_of(frames)
    expected = reference(**reference_inputs(encoder, pixels))
    clips, patches = encoder.encode_clips(pixels)
    torch.testing.assert_close(clips.flatten(0, 1), encoder.encode_frames(pixels.flatten(0, 1)))
    assert close(F.normalize(head.embed_videos(clips), dim=-1), expected.video_embeds)
    assert close(F.normalize(head.embed_classes(patches), dim=-1), expected.text_embeds)
    logits = encoder.network.logit_scale.exp() * head(clips, patches)
    assert close(logits, expected.logits_per_video)
    assert logits.std() > 0.1


@pytest.fixture(scope="module")
def small(made: Any) -> tuple[OpenClipEncoder, XClipHead]:
    return made(4, 2)[1:]


def test_fewer_classes_have_the_same_scores(small: Any):
    encoder, head = small
    inputs = encoder.encode_clips(pixels_of(4))
    own = torch.tensor([2, 0])
    torch.testing.assert_close(
        head(*inputs, head.class_embeddings[own]), head(*inputs)[:, own], rtol=0, atol=1e-6
    )


def test_clips_do_not_mix(small: Any):
    encoder, head = small
    pixels = pixels_of(4)
    before = head(*encoder.encode_clips(pixels))
    pixels[1, 2] //= 2
    same = (head(*encoder.encode_clips(pixels)) == before).all(dim=1)
    assert same.tolist() == [True, False, True]


def test_the_order_of_frames_enters_by_positions_alone(small: Any):
    encoder, head = small
    pixels, order = pixels_of(4), [3, 1, 0, 2]
    (clips, patches), (permuted, same) = encoder.encode_clips(pixels), encoder.encode_clips(pixels[:, order])
    torch.testing.assert_close(permuted, clips[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(same, patches, rtol=0, atol=1e-5)
    assert not torch.allclose(head.embed_videos(permuted), head.embed_videos(clips), atol=1e-2)
    positions = head.mit.positions.clone()
    head.mit.positions[:] = positions[0]
    torch.testing.assert_close(head.embed_videos(permuted), head.embed_videos(clips), rtol=0, atol=1e-5)
    head.mit.positions[:] = positions


def test_patch_tokens_in_half_precision_change_little(small: Any):
    encoder, head = small
    clips, patches = encoder.encode_clips(pixels_of(4))
    exact, half = head(clips, patches), head(clips.half().float(), patches.half().float())
    assert (half - exact).abs().max() <= 5e-3 * exact.std()


def a_stored_head(head: XClipHead) -> StoredHead:
    settings = {"temperature": 0.05, "prompts": ["{}"]}
    return StoredHead(head, an_identity(), PHRASES, settings)


def test_the_file_of_a_head(small: Any, tmp_path: Path):
    encoder, head = small
    save_head(tmp_path / "h.safetensors", a_stored_head(head))
    stored = load_head(tmp_path / "h.safetensors")
    assert (stored.kind, stored.classes, stored.temperature) == ("x-clip", PHRASES, 0.05)
    inputs = encoder.encode_clips(pixels_of(4))
    assert torch.equal(stored.module(*inputs), head(*inputs))
    stored.check_features((5, 1, 4, 64), "the cache")
    with pytest.raises(HeadError, match="positions for 4 frames, but the cache has 8"):
        stored.check_features((5, 1, 8, 64), "the cache")
    with pytest.raises(HeadError, match="embeddings of 64 dimensions, but those of the cache have 32"):
        stored.check_features((5, 1, 4, 32), "the cache")
    save_head(tmp_path / "h.safetensors", replace(a_stored_head(head), classes=PHRASES[1:]))
    with pytest.raises(HeadError, match="3 classes, and embeddings of 4"):
        load_head(tmp_path / "h.safetensors")


def a_cache(encoder: OpenClipEncoder, pixels: torch.Tensor, folder: Path, *, patches: bool = True) -> Any:
    """A cache of clips [N, V, T, H, W, 3]."""
    with CacheWriter(folder, an_identity()) as writer:
        for number, views in enumerate(pixels):
            frames, tokens = encoder.encode_clips(views)
            times = np.zeros(frames.shape[:2])
            writer.add(
                VideoRecord(
                    id=f"{number}.mp4",
                    path=f"{number}.mp4",
                    frames=frames.numpy(),
                    frame_indices=times.astype(np.int64),
                    timestamps=times,
                    patches=tokens.numpy() if patches else None,
                )
            )
    return FeatureCache(folder)


def test_scores_from_a_cache_equal_the_logits_of_transformers(made: Any, tmp_path: Path):
    reference, encoder, head = made(4, 2)
    pixels = pixels_of(4)
    expected = reference(**reference_inputs(encoder, pixels)).logits_per_video.numpy()
    views = pixels[torch.tensor([[0, 1], [2, 0], [1, 1]])]
    cache = a_cache(encoder, views, tmp_path / "c")
    temperature = float(torch.exp(-encoder.network.logit_scale))
    scorer = scorer_of_head(head, cache, temperature=temperature, name="(h)", device="cpu")
    indices = np.array([2, 0, 1])
    ((places, (scanned,)),) = scan_scores(cache, [scorer], indices)
    assert (scorer.name, places.tolist()) == ("x-clip (h)", [1, 2, 0])
    found = np.empty_like(scanned)
    found[places] = scanned
    expected = expected[[[1, 1], [0, 1], [2, 0]]]
    assert abs(found / temperature - expected).max() <= 5e-3 * expected.std()
    classes = np.array([3, 1])
    of_two = torch.from_numpy(expected[:, :, classes]).double().softmax(dim=-1).mean(dim=1)
    np.testing.assert_allclose(scorer.scores(found, classes), of_two, atol=5e-3)
    one = cache.single_view()
    scorer = scorer_of_head(head.select(classes), one, temperature=temperature, device="cpu")
    ((places, (alone,)),) = scan_scores(one, [scorer], indices)
    np.testing.assert_allclose(alone, found[places][:, :1, classes], atol=1e-6)


def test_pieces_of_any_size_have_the_same_scores(small: Any, tmp_path: Path, monkeypatch: Any):
    encoder, head = small
    cache = a_cache(encoder, pixels_of(4)[:, None], tmp_path / "c")
    indices, scorer = np.array([1, 2, 0]), scorer_of_head(head, cache, device="cpu")
    whole = scorer.similarities(indices, cache.frames(indices))
    monkeypatch.setattr(x_clip_scorer, "_PATCH_BYTES", 1)
    monkeypatch.setattr(video_prompts, "_BATCH_NUMBERS", 1)
    np.testing.assert_allclose(scorer.similarities(indices, cache.frames(indices)), whole, atol=1e-6)


def test_without_prompts_the_integration_transformer_is_left(small: Any, tmp_path: Path):
    encoder, head = small
    cache = a_cache(encoder, pixels_of(4)[:, None], tmp_path / "c", patches=False)
    other = a_cache(encoder, pixels_of(4)[:, None], tmp_path / "d")
    narrow = XClipHead(head.class_embeddings.numpy(), 4, 64)
    for refused, features, why in ((head, cache, "has none"), (narrow, other, "have 128")):
        with pytest.raises(HeadError, match=f"{why}.*--no-patches.*--video-prompts off"):
            scorer_of_head(refused, features)
    left = head_over(a_stored_head(head), None, EncoderLoader(), video_prompts=False)
    found = scorer_of_head(left, cache).similarities(np.arange(B), cache.frames())
    videos = head.embed_videos(torch.from_numpy(cache.frames()[:, 0]).float())
    expected = F.cosine_similarity(videos[:, None], head.class_embeddings[None], dim=-1)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_other_classes_are_those_of_their_embeddings(small: Any):
    encoder, head = small
    inputs, texts = encoder.encode_clips(pixels_of(4)), encoder.encode_text(("surfing", "yoga"))
    other = head.with_classes(texts.sentence)
    assert torch.equal(other(*inputs), head(*inputs, torch.from_numpy(texts.sentence)))
    lexicon = lexicon_of_labels(["yoga", "archery"])
    same = head_over(a_stored_head(head), lexicon, EncoderLoader())
    torch.testing.assert_close(
        same(*inputs), head(*inputs)[:, list(map(PHRASES.index, lexicon.labels))], rtol=0, atol=1e-6
    )
    with pytest.raises(ValueError, match="32 dimensions, the head's 64"):
        head.with_classes(texts.sentence[:, :32])


def test_features_of_views_are_not_averaged(small: Any, tmp_path: Path):
    cache = a_cache(small[0], pixels_of(4)[:, None], tmp_path / "c")
    with pytest.raises(ValueError, match="other class embeddings for every view"):
        scorer_of_head(small[1], cache, view_average="features")


def test_rejects_clips_and_towers_it_cannot_read(small: Any, tiny_model: str):
    with pytest.raises(ValueError, match="clips of 4 frames, got 2"):
        small[0].encode_clips(pixels_of(2))
    with pytest.raises(ValueError, match="64 dimensions cannot be shared among 5 heads"):
        XClipHead(small[1].class_embeddings.numpy(), 4, 128, prompt_heads=5)


def test_an_untrained_head_begins_near_the_class_embeddings(small: Any):
    encoder, head = small
    begun = XClipHead(head.class_embeddings.numpy(), 4, 128, seed=3)
    clips, patches = encoder.encode_clips(pixels_of(4))
    changed = begun.embed_classes(patches)
    assert changed.shape == (B, len(PHRASES), 64)
    assert F.cosine_similarity(changed, head.class_embeddings[None], dim=-1).min() > 0.99
    again = XClipHead(head.class_embeddings.numpy(), 4, 128, seed=3)
    assert torch.equal(again(clips, patches), begun(clips, patches))
