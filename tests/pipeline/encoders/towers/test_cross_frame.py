"""Cross-frame attention inside a tower, against transformers' X-CLIP."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from vidclip.pipeline.encoders import TowerConfig
from vidclip.pipeline.encoders.towers.build import change_tower
from xclip_models import official_state, open_clip_config, tiny_xclip

B, T = 2, 4


def visual_tower(reference: Any, frames: int) -> Any:
    """The visual tower of an X-CLIP on open_clip's blocks, with the official names."""
    network: Any = open_clip.CLIP(**open_clip_config(reference))
    change_tower(network.visual, TowerConfig("cross-frame", frames))
    weights = {k: v for k, v in official_state(reference).items() if k.startswith("visual.")}
    network.visual.load_state_dict({k.removeprefix("visual."): v for k, v in weights.items()})
    return network.visual.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def visual() -> Any:
    return visual_tower(tiny_xclip(T), T)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(B * T, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("frames", "heads"), [(4, 1), (8, 2)])
def test_features_equal_those_of_transformers(frames: int, heads: int):
    reference = tiny_xclip(frames, heads)
    images = torch.randn(B * frames, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    outputs = reference.vision_model(images)
    expected = reference.visual_projection(outputs.pooler_output)
    found = visual_tower(reference, frames)(images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_frames_of_a_clip_see_each_other_and_clips_do_not(visual: Any, images: torch.Tensor):
    before = visual(images)
    images[1] += 1
    changed = (visual(images) != before).any(dim=1).tolist()
    assert changed == [True] * T + [False] * T


def test_permuted_frames_permute_their_features_and_leave_the_mean(visual: Any, images: torch.Tensor):
    order = torch.tensor([2, 0, 3, 1])
    features = visual(images).unflatten(0, (B, T))
    permuted = visual(images.unflatten(0, (B, T))[:, order].flatten(0, 1)).unflatten(0, (B, T))
    torch.testing.assert_close(permuted, features[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(permuted.mean(dim=1), features.mean(dim=1), rtol=0, atol=1e-5)
    assert not torch.allclose(features[0, 0], features[0, 1], atol=1e-2)


def test_gradients_are_the_same_with_checkpointing(visual: Any, images: torch.Tensor):
    found = []
    for checkpointing in (False, True):
        visual.set_grad_checkpointing(checkpointing)
        visual.requires_grad_(True).zero_grad()
        visual(images).square().sum().backward()
        found.append(visual.transformer.resblocks[0].message_fc.weight.grad.clone())
    visual.set_grad_checkpointing(False)
    visual.requires_grad_(False).zero_grad()
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0])


def test_a_quiet_start_is_nearer_to_the_trained_tower(images: torch.Tensor):
    towers = {}
    for start in (None, "released", "quiet"):
        torch.manual_seed(0)
        network: Any = open_clip.CLIP(**open_clip_config(tiny_xclip(T)))
        if start:
            change_tower(network.visual, TowerConfig("cross-frame", T, start), seed=1)
        towers[start] = network.visual.eval()
    with torch.no_grad():
        plain, released, quiet = (towers[start](images) for start in (None, "released", "quiet"))
    assert F.cosine_similarity(released, plain).max() < F.cosine_similarity(quiet, plain).min() < 0.9999


def test_the_start_follows_from_the_seed():
    def first(seed: int) -> torch.Tensor:
        network: Any = open_clip.CLIP(**open_clip_config(tiny_xclip(T)))
        change_tower(network.visual, TowerConfig("cross-frame", T), seed)
        return network.visual.transformer.resblocks[0].message_fc.weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_starts_are_those_of_their_kind():
    assert TowerConfig("cross-frame", T).to_dict() == {
        "kind": "cross-frame",
        "frames": T,
        "start": "released",
    }
    assert TowerConfig("token-t1d", T).start == "shift"
    assert "start" not in TowerConfig("tsm", T).to_dict()
    with pytest.raises(ValueError, match="start of cross-frame must be one of released, quiet, got 'shift'"):
        TowerConfig("cross-frame", T, "shift")
