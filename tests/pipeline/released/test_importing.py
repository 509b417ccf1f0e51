"""Released files become models that compute what released code computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from released_files import (
    D,
    T,
    a_clip,
    a_t_trans,
    bike_file,
    bike_scores,
    frames_of,
    pixels_of,
    text4vis_file,
    text4vis_scores,
    tokens_of,
)
from vidclip.cache import FeatureCache
from vidclip.pipeline import ExtractSettings, extract, load_encoder, predict, read_videos
from vidclip.pipeline.encoders import EncoderLoader, OpenClipEncoder
from vidclip.pipeline.heads import HeadScorer, head_over, load_head
from vidclip.pipeline.released import Imported, import_model
from vidclip.pipeline.scoring import scan_scores
from xclip_models import official_state, tiny_xclip


def scores_and_probabilities(
    folder: Path, imported: Imported, videos: Path, cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    """What extract and the head give, and what predict gives."""
    encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    stored = load_head(folder / "head.safetensors")
    listed, settings = read_videos(videos), ExtractSettings(workers=1)
    extract(listed, encoder, cache, imported.model.clip_spec, settings)
    features = FeatureCache(cache)
    stored.check_encoder(features.identity.encoder_digest, "the cache")
    stored.check_features(features.shape, "the cache")
    head = head_over(stored, None, EncoderLoader())
    scorer = HeadScorer(head, temperature=stored.temperature)
    ((places, (found,)),) = scan_scores(features, [scorer])
    scores = found[np.argsort(places), 0]
    predictions, failures = predict(listed, stored, head, encoder, settings)
    assert not failures
    return scores, np.stack([one.probabilities for one in predictions])


def softmax(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).double().softmax(dim=-1).numpy()


@pytest.mark.parametrize(("prefix", "temporal"), [("module.", True), ("", False)])
def test_bike(saved: Any, videos: Path, lexicon: Any, tmp_path: Path, prefix: str, temporal: bool):
    clip, fusion = a_clip(), a_t_trans() if temporal else None
    folder = tmp_path / "model"
    imported = import_model(saved(bike_file(clip, fusion, prefix)), folder, lexicon=lexicon)
    spec = imported.model.clip_spec
    assert (spec.sampling.frames, spec.sampling.position, spec.preprocess.resize) == (T, "start", 32)
    scores, probabilities = scores_and_probabilities(folder, imported, videos, tmp_path / "c")
    expected = bike_scores(clip, fusion, frames_of(clip, pixels_of(videos, spec)), tokens_of("bike"))
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(scores) > 0.05
    np.testing.assert_allclose(probabilities, softmax(expected), atol=1e-4)


@pytest.mark.parametrize(("prefix", "temporal"), [("", True), ("module.", False)])
def test_text4vis(saved: Any, videos: Path, lexicon: Any, tmp_path: Path, prefix: str, temporal: bool):
    clip, fusion = a_clip(), a_t_trans() if temporal else None
    before = {k: v + 1 if k == "visual.proj" else v for k, v in clip.state_dict().items()}
    save_file({k: v.contiguous() for k, v in before.items()}, tmp_path / "clip.safetensors")
    folder, noted = tmp_path / "model", []
    imported = import_model(
        saved(text4vis_file(clip, fusion, prefix)),
        folder,
        lexicon=lexicon,
        text=str(tmp_path / "clip.safetensors"),
        on_note=noted.append,
    )
    assert noted == []
    scores, probabilities = scores_and_probabilities(folder, imported, videos, tmp_path / "c")
    frames = frames_of(clip, pixels_of(videos, imported.model.clip_spec))
    expected = text4vis_scores(clip, fusion, frames, tokens_of("text4vis"))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert np.ptp(scores) > 0.05
    np.testing.assert_allclose(probabilities, softmax(100 * expected), atol=1e-4)


def test_names_with_and_without_module_give_the_same_model(saved: Any, lexicon: Any, tmp_path: Path):
    clip, fusion, found = a_clip(), a_t_trans(), []
    for prefix in ("", "module."):
        folder = tmp_path / f"model{prefix}"
        import_model(saved(bike_file(clip, fusion, prefix)), folder, lexicon=lexicon)
        found.append(load_head(folder / "head.safetensors"))
    assert found[0].identity.digest == found[1].identity.digest
    for name, tensor in found[0].module.state_dict().items():
        assert torch.equal(tensor, found[1].module.state_dict()[name]), name


def test_several_views_are_averaged_as_released(saved: Any, lexicon: Any, tmp_path: Path):
    clip = a_clip()
    import_model(saved(bike_file(clip, None)), tmp_path / "b", lexicon=lexicon)
    torch.save(text4vis_file(a_clip(1), None), tmp_path / "t.pt")
    text = f"local-dir:{tmp_path / 'b'}"
    import_model(tmp_path / "t.pt", tmp_path / "t", lexicon=lexicon, text=text)
    heads = [load_head(tmp_path / name / "head.safetensors").module for name in "bt"]
    assert [head.config.view_average for head in heads] == ["unscaled", "features"]


def test_a_text_tower_of_the_same_visual_tower_is_noted(saved: Any, tmp_path: Path):
    clip, noted = a_clip(), []
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    import_model(
        saved(text4vis_file(clip, None)),
        tmp_path / "m",
        text=str(tmp_path / "clip.pt"),
        on_note=noted.append,
    )
    assert "was never trained on videos" in noted[0]
    assert not (tmp_path / "m" / "head.safetensors").exists()


@pytest.mark.parametrize("kind", ["token-t1d", "tsm"])
def test_what_names_say_is_inside_the_tower(saved: Any, tmp_path: Path, kind: str):
    state = bike_file(a_clip(), None)
    weights = {}
    for name, tensor in state["model_state_dict"].items():
        stem = "visual.transformer.resblocks."
        if kind == "tsm" and name.startswith(stem):
            block, rest = name.removeprefix(stem).split(".", 1)
            name = f"{stem}{block}.net.{rest}"
        weights[name] = tensor
    if kind == "token-t1d":
        for block in range(2):
            kernel = torch.zeros(128, 1, 3)
            kernel[:, 0, 1] = 1  # the identity
            weights[f"visual.transformer.resblocks.{block}.control_point.conv.weight"] = kernel
    state["model_state_dict"] = weights
    import_model(saved(state), tmp_path / "m")
    encoder = load_encoder(f"local-dir:{tmp_path / 'm'}", device="cpu", precision="fp32")
    assert encoder.tower is not None
    assert (encoder.tower.kind, encoder.frames_per_sample) == (kind, T)
    pixels = torch.randint(0, 256, (1, T, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    plain = frames_of(a_clip(), pixels)[0]
    assert torch.allclose(encoder.encode_frames(pixels[0]), plain, atol=1e-2) == (kind == "token-t1d")


# --- X-CLIP


def xclip_scores(folder: Path, reference: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits of the imported model, logits of transformers)."""
    encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    stored = load_head(folder / "head.safetensors")
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    images = ((pixels.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        expected = reference(pixel_values=images, input_ids=tokens_of("x-clip")).logits_per_video
        found = stored.module(*encoder.encode_clips(pixels)) / stored.temperature
    return found, expected


@pytest.mark.parametrize(("frames", "heads"), [(4, 1), (8, 2)])
def test_a_folder_of_hugging_face(lexicon: Any, tmp_path: Path, frames: int, heads: int):
    reference = tiny_xclip(frames, heads)
    reference.save_pretrained(tmp_path / "hf")
    imported = import_model(tmp_path / "hf", tmp_path / "model", lexicon=lexicon)
    assert imported.model.clip_spec.sampling.position == "middle"
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, frames, 32, 32, 3), generator=generator).byte()
    found, expected = xclip_scores(tmp_path / "model", reference, pixels)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_official_layout_gives_the_same_encoder_and_scores(saved: Any, lexicon: Any, tmp_path: Path):
    reference = tiny_xclip(4, 1)
    reference.save_pretrained(tmp_path / "hf", safe_serialization=False)
    import_model(tmp_path / "hf", tmp_path / "a", lexicon=lexicon)
    state = {f"module.{name}": tensor for name, tensor in official_state(reference).items()}
    official = saved({"model": state, "max_accuracy": 80.4, "epoch": 29}, "k400_16_8.pth")
    import_model(official, tmp_path / "b", lexicon=lexicon)
    heads = [load_head(tmp_path / name / "head.safetensors") for name in "ab"]
    assert heads[0].identity.encoder_digest == heads[1].identity.encoder_digest
    for name, tensor in heads[0].module.state_dict().items():
        assert torch.equal(tensor, heads[1].module.state_dict()[name]), name
    assert heads[0].temperature == pytest.approx(np.exp(-3))


def test_preprocessing_of_a_folder_is_heeded(tmp_path: Path):
    reference = tiny_xclip(4, 1)
    reference.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 36}, "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    preprocess = import_model(tmp_path / "hf", tmp_path / "m").model.preprocess
    assert (preprocess.resize, preprocess.interpolation, preprocess.mean) == (36, "bicubic", (0.5, 0.5, 0.5))
    encoder = load_encoder(f"local-dir:{tmp_path / 'm'}", device="cpu", precision="fp32")
    assert isinstance(encoder, OpenClipEncoder)
    assert (encoder.preprocess.std, encoder.dimension) == ((0.5, 0.5, 0.5), D)
