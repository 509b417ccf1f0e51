"""What models cost, against the figures that papers print; no weights are there."""

from __future__ import annotations

import numpy as np
import pytest

from vidclip.pipeline.encoders import EncoderError, PromptConfig
from vidclip.pipeline.evaluation import model_cost
from vidclip.pipeline.heads import HeadConfig, VideoHead, XClipHead


@pytest.mark.parametrize(
    ("model", "millions", "billions"),
    [("ViT-B-32", 71.6, 23.7), ("ViT-B-16", 69.9, 90.3), ("ViT-L-14", 230.4, 415.4)],
)
def test_costs_are_those_of_text4vis_table_12(model: str, millions: float, billions: float):
    cost = model_cost(model, temporal="transformer")
    assert cost.table12_parameters / 1e6 == pytest.approx(millions, rel=3e-3)
    assert cost.table12_multiply_adds / 1e9 == pytest.approx(billions, rel=5e-3)


def test_costs_follow_the_formula_of_a_transformer():
    """ViT-B/32: 12 blocks of width d over n tokens a frame, and a T-Trans of 6 blocks of width D over T frames."""
    frames, n, d, out = 8, 50, 768, 512
    cost = model_cost("ViT-B-32", frames=frames, temporal="transformer")

    def blocks(count: int, tokens: int, width: int) -> int:
        return count * (12 * tokens * width**2 + 2 * tokens**2 * width)

    patches = (n - 1) * d * 3 * 32**2
    assert cost.encoder_multiply_adds == frames * (patches + blocks(12, n, d) + d * out)
    assert cost.head_multiply_adds == blocks(6, frames, out)
    weights = 12 * (12 * d**2 + 13 * d) + d * 3 * 32**2 + d + n * d + 4 * d + d * out
    assert cost.encoder_parameters == weights
    assert cost.head_parameters == 6 * (12 * out**2 + 13 * out) + frames * out
    assert cost.parameters == cost.encoder_parameters + cost.head_parameters


@pytest.mark.parametrize(
    ("model", "frames", "width", "dimension", "billions"),
    [
        ("ViT-B-32", 8, 768, 512, 39),
        ("ViT-B-32", 16, 768, 512, 75),
        ("ViT-B-16", 8, 768, 512, 145),
        ("ViT-B-16", 16, 768, 512, 287),
        ("ViT-L-14", 8, 1024, 768, 658),
        ("ViT-L-14-336", 16, 1024, 768, 3086),
    ],
)
def test_x_clip_costs_what_its_paper_says(
    model: str, frames: int, width: int, dimension: int, billions: float
):
    """With the prompts of Kinetics-400: Ni et al. 2022, Table 1."""
    head = XClipHead(np.ones((400, dimension), np.float32), frames, width)
    cost = model_cost(model, frames=frames, tower="cross-frame", head=head)
    assert cost.multiply_adds / 1e9 == pytest.approx(billions, rel=0.03)


def test_joint_attention_costs_what_the_supplement_of_x_clip_says():
    """Ni et al. 2022, supplement, Table 2: CLIP-Joint."""
    cost = model_cost("ViT-B-16", frames=8, tower="joint")
    assert cost.multiply_adds / 1e9 == pytest.approx(184, rel=0.03)


@pytest.mark.parametrize(
    ("core", "squares"), [("none", None), ("mlp", 0), ("lstm", 6), ("r2plus1d", 6), ("c3d", 9)]
)
def test_temporal_prompts_cost_what_the_formula_says(core: str, squares: int | None):
    """A frame and a layer: keys, values and reading of P prompts; Pcls and the summary's attention; beta."""
    frames, n, d, count = 8, 197, 768, 8 + 1 + 8
    plain = model_cost("ViT-B-16", frames=frames)
    prompts = PromptConfig(reparameterization=core)
    cost = model_cost("ViT-B-16", frames=frames, tower="temporal-prompts", prompts=prompts)
    expected = 2 * count * d**2 + 2 * n * count * d + 5 * d**2 + 2 * frames * d
    if squares is not None:
        expected += count * (2 * d * (d // 2) + squares * (d // 2) ** 2)
    assert cost.multiply_adds - plain.multiply_adds == 12 * frames * expected


def test_temporal_prompts_of_the_paper_cost_four_percent():
    """53.3 M parameters are trained: see `test_temporal_prompts`."""
    plain, cost = (model_cost("ViT-B-16", tower=tower) for tower in ("none", "temporal-prompts"))
    assert cost.parameters - plain.parameters == 53_337_600
    assert 0.03 < cost.multiply_adds / plain.multiply_adds - 1 < 0.04


def test_a_head_costs_its_products_with_the_classes():
    head = VideoHead(
        HeadConfig("text", "mean", "mean", projection=True), np.ones((101, 512), np.float32), 512, 8
    )
    cost = model_cost("ViT-B-32", head=head)
    assert cost.head_multiply_adds == 512 * 512 + 512 * 101
    assert cost.head_parameters == 512 * 512


def test_more_frames_and_larger_ones_cost_more():
    cost = model_cost("ViT-B-32")
    assert model_cost("ViT-B-32", frames=16).multiply_adds == 2 * cost.multiply_adds
    assert model_cost("ViT-B-32", image_size=448).multiply_adds > 3.9 * cost.multiply_adds


def test_a_resnet_costs_what_timm_says():
    """timm's model card of resnet50_clip.openai: 38.3 M parameters, 6.1 GMACs."""
    cost = model_cost("RN50", frames=1)
    assert cost.parameters / 1e6 == pytest.approx(38.3, abs=0.05)
    assert cost.multiply_adds / 1e9 == pytest.approx(6.1, abs=0.05)


def test_rejects_what_cannot_be_counted():
    with pytest.raises(EncoderError, match="open_clip knows no model 'ViT-B-23'"):
        model_cost("ViT-B-23")
    with pytest.raises(ValueError, match="cross-frame cannot be put inside a ModifiedResNet"):
        model_cost("RN50", tower="cross-frame")
    head = VideoHead(HeadConfig("text", "transformer", "mean"), np.ones((3, 512), np.float32), 512, 8)
    with pytest.raises(ValueError, match="reads embeddings of 512 dimensions, and the encoder gives 768"):
        model_cost("ViT-L-14", head=head)
    with pytest.raises(ValueError, match="was made for 8 frames"):
        model_cost("ViT-B-32", frames=4, head=head)
