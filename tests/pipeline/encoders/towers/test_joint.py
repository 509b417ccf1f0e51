"""Joint attention of all patches of a clip, against the same written out, and against one frame."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet

from vidclip.pipeline.encoders import TowerConfig
from vidclip.pipeline.encoders.towers.build import change_tower

B, T = 2, 3


def vision_transformer() -> Any:
    torch.manual_seed(0)
    tower: Any = open_clip.transformer.VisionTransformer(
        image_size=16, patch_size=8, width=12, layers=2, heads=2, mlp_ratio=2.0, output_dim=5
    )
    return tower.eval().requires_grad_(False)


def joint_tower(frames: int = T) -> Any:
    visual = vision_transformer()
    change_tower(visual, TowerConfig("joint", frames))
    return visual.requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(B * T, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_embeddings_equal_one_sequence_of_all_patches(images: torch.Tensor):
    plain, visual = vision_transformer(), joint_tower()
    time = visual.ln_pre.time_embedding
    expected = []
    for clip in images.unflatten(0, (B, T)):
        patches = plain.conv1(clip).flatten(2).transpose(1, 2) + plain.positional_embedding[1:]  # [T, P, d]
        tokens = [plain.class_embedding + plain.positional_embedding[0]]
        tokens += [patches[t, p] + time[t] for t in range(T) for p in range(patches.shape[1])]
        x = plain.ln_pre(torch.stack(tokens)[None])
        for block in plain.transformer.resblocks:
            x = block(x)
        expected += [plain.ln_post(x[0, 0]) @ plain.proj] * T
    torch.testing.assert_close(visual(images), torch.stack(expected), rtol=0, atol=1e-5)


def test_a_clip_of_one_frame_without_a_time_embedding_is_the_trained_tower(images: torch.Tensor):
    visual = joint_tower(1)
    visual.ln_pre.time_embedding.zero_()
    torch.testing.assert_close(visual(images), vision_transformer()(images), rtol=0, atol=1e-6)


def test_frames_of_a_clip_see_each_other_and_clips_do_not(images: torch.Tensor):
    visual = joint_tower()
    before = visual(images)
    images[T - 1] += 1
    changed = (visual(images) != before).any(dim=1).tolist()
    assert changed == [True] * T + [False] * T


def test_the_order_of_the_frames_counts(images: torch.Tensor):
    visual = joint_tower()
    backward = images.unflatten(0, (B, T)).flip(1).flatten(0, 1)
    assert (visual(backward) - visual(images)).abs().max() > 1e-3


def test_a_resnet_is_refused():
    resnet = ModifiedResNet([1, 1, 1, 1], 8, 2, image_size=32, width=8)
    with pytest.raises(ValueError, match="joint cannot be put inside a ModifiedResNet"):
        change_tower(resnet, TowerConfig("joint", T))
