"""Mixed clips and their targets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vidclip.pipeline.finetune import find_recipe
from vidclip.pipeline.finetune.mixing import Mixing, soft_targets
from vidclip.pipeline.heads import scores_loss

B, T, S, C = 4, 3, 32, 5


def mixed(seed: int, **changes: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of which each has the number of its class everywhere, mixed, and their targets."""
    clips = torch.arange(B).float().view(B, 1, 1, 1, 1).expand(B, T, 3, S, S)
    torch.manual_seed(seed)
    mix = Mixing(find_recipe("x-clip", label_smoothing=0.0, **changes))
    return mix(clips, soft_targets(torch.arange(B), C, 0.0))


def test_targets_are_smoothed():
    targets = soft_targets(torch.tensor([2, 0]), C, 0.1)
    assert targets[0].tolist() == pytest.approx([0.02, 0.02, 0.92, 0.02, 0.02])
    scores = torch.randn(2, C, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(scores / 0.5, torch.tensor([2, 0]), label_smoothing=0.1)
    torch.testing.assert_close(scores_loss(scores, targets, temperature=0.5), expected)


def test_cutmix_puts_one_box_into_all_frames_and_counts_its_pixels():
    areas = set()
    for seed in range(8):
        clips, targets = mixed(seed, mixup=0.0)
        own = torch.arange(B).float().view(B, 1, 1, 1, 1)
        inside = clips != own
        assert torch.equal(inside, inside[:1, :1, :1].expand_as(inside))
        partner = torch.tensor([3, 0, 1, 2]).float().view(B, 1, 1, 1, 1)
        assert torch.equal(clips, torch.where(inside, partner, own))
        area = float(inside[0, 0, 0].float().mean())
        rows, columns = inside[0, 0, 0].any(dim=1), inside[0, 0, 0].any(dim=0)
        assert area == pytest.approx(float(rows.float().mean() * columns.float().mean()))
        assert targets[range(B), range(B)].tolist() == pytest.approx([1 - area] * B)
        assert targets.sum(dim=1).tolist() == pytest.approx([1] * B)
        areas.add(area)
    assert len(areas) > 4


def test_mixup_blends_all_frames_alike():
    clips, targets = mixed(0, cutmix=0.0)
    share = float(targets[1, 1])
    assert 0 < share < 1
    assert targets[1].tolist() == pytest.approx([1 - share, share, 0, 0, 0])
    torch.testing.assert_close(clips[1], torch.full((T, 3, S, S), share))


def test_half_of_the_steps_have_each():
    boxes = [len(mixed(seed)[0][1].unique()) == 2 for seed in range(60)]
    assert 15 < sum(boxes) < 45


def test_a_single_clip_stays_as_it_is():
    clip, target = torch.rand(1, T, 3, S, S), soft_targets(torch.tensor([1]), C, 0.1)
    found = Mixing(find_recipe("x-clip"))(clip, target)
    assert torch.equal(found[0], clip)
    assert torch.equal(found[1], target)
