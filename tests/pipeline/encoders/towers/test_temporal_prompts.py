"""Temporal prompts inside a frozen tower, against the equations written out token by token."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch.nn.functional import layer_norm

from helpers import TINY_CONFIG, save_model_folder
from vidclip.pipeline import load_encoder
from vidclip.pipeline.choices import PROMPT_PARTS, REPARAMETERIZATIONS
from vidclip.pipeline.encoders import (
    EncoderError,
    PromptConfig,
    TowerConfig,
    change_tower,
    is_new,
    load_outline,
)

B, T, S, WIDTH, HEADS = 2, 3, 2, 16, 2


def vision_transformer() -> Any:
    torch.manual_seed(0)
    tower: Any = open_clip.transformer.VisionTransformer(
        image_size=16, patch_size=8, width=WIDTH, layers=3, heads=HEADS, mlp_ratio=2.0, output_dim=5
    )
    return tower.double().eval().requires_grad_(False)


def prompted(*, moved: bool = False, seed: int = 0, **settings: Any) -> Any:
    """A tower with prompts; all of their parameters moved away from where they begin, where that is asked."""
    visual = vision_transformer()
    config = PromptConfig(**{"global_prompts": S, "reparameterization": "none", **settings})
    change_tower(visual, TowerConfig("temporal-prompts", T, prompts=config), seed)
    visual.double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in visual.temporal_prompts.parameters():
        if moved:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return visual.requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(B * T, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def norm(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(
    x: torch.Tensor, weights: dict[str, torch.Tensor], name: str, heads: int, logits: Any = 0
) -> torch.Tensor:
    """Self-attention of one sequence [n, W], head by head; `logits` [heads, n] are added to those of each key."""
    packed = x @ weights[f"{name}.in_proj_weight"].T + weights[f"{name}.in_proj_bias"]
    q, k, v = (part.unflatten(1, (heads, -1)) for part in packed.chunk(3, dim=1))
    found = []
    for head in range(heads):
        scores = q[:, head] @ k[:, head].T / math.sqrt(q.shape[-1])
        scores = scores + (logits[head] if torch.is_tensor(logits) else 0)
        found.append(scores.softmax(dim=1) @ v[:, head])
    return linear(torch.cat(found, dim=1), weights, f"{name}.out_proj")


def written_out(visual: Any, images: torch.Tensor, config: PromptConfig) -> torch.Tensor:
    """Equations 8 to 14, a frame at a time: concatenate the prompts, let all tokens attend, drop the prompts."""
    weights = dict(visual.state_dict())
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    found = []
    for clip in patches.unflatten(0, (-1, T)):
        z = [torch.cat([visual.class_embedding[None], frame]) + visual.positional_embedding for frame in clip]
        z = [norm(frame, weights, "ln_pre") for frame in z]
        for layer in range(3):
            own, block = f"temporal_prompts.layers.{layer}", f"transformer.resblocks.{layer}"
            x = torch.stack([frame[0] for frame in z])
            prompts: list[list[torch.Tensor]] = [[] for _ in range(T)]
            if set(config.parts) & {"C", "I"}:
                y = linear(x, weights, f"{own}.projection")
            if "C" in config.parts:
                normed = norm(y, weights, f"{own}.summary_norm")
                summary = y + attention(normed, weights, f"{own}.summary_attention", HEADS)
            for t in range(T):
                if "C" in config.parts:
                    prompts[t].append(summary[t])
                if "G" in config.parts:
                    g = weights[f"{own}.global_prompts"]
                    prompts[t] += list(g[t] if config.global_per_frame else g)
                if "I" in config.parts:
                    prompts[t] += [weights[f"{own}.local_prompts"][s] + y[s] for s in range(T)]
            for t in range(T):
                n, tokens = len(z[t]), torch.cat([z[t], torch.stack(prompts[t])])
                logits = 0
                if config.gate:
                    gate = weights[f"{own}.gate"][:, None]
                    logits = torch.cat([gate.new_zeros(HEADS, n), gate.expand(-1, len(prompts[t]))], dim=1)
                tokens = tokens + attention(
                    norm(tokens, weights, f"{block}.ln_1"), weights, f"{block}.attn", HEADS, logits
                )
                kept = tokens[:n]
                hidden = linear(norm(kept, weights, f"{block}.ln_2"), weights, f"{block}.mlp.c_fc")
                z[t] = kept + linear(torch.nn.functional.gelu(hidden), weights, f"{block}.mlp.c_proj")
        found += [norm(frame[0], weights, "ln_post") @ visual.proj for frame in z]
    return torch.stack(found)


@pytest.mark.parametrize(
    "settings",
    [
        *({"parts": parts} for parts in PROMPT_PARTS),
        {"gate": True},
        {"global_per_frame": True},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_embeddings_equal_concatenated_tokens_that_attend_and_are_dropped(
    images: torch.Tensor, settings: dict[str, Any]
):
    visual = prompted(moved=True, **settings)
    config = PromptConfig(global_prompts=S, reparameterization="none", **settings)
    expected = written_out(visual, images, config)
    torch.testing.assert_close(visual(images), expected, rtol=0, atol=1e-9)
    plain = vision_transformer()(images)
    assert (expected - plain).abs().max() > 0.01, "the prompts change nothing"


@pytest.mark.parametrize("core", REPARAMETERIZATIONS)
def test_without_its_prompts_a_tower_is_the_same_to_the_bit(images: torch.Tensor, core: str):
    visual, plain = (
        prompted(reparameterization=core, temporal_embedding=True, gate=True),
        vision_transformer(),
    )
    frozen = {name: tensor for name, tensor in visual.state_dict().items() if not is_new(f"visual.{name}")}
    assert frozen.keys() == plain.state_dict().keys()
    before = plain(images)
    plain.load_state_dict(frozen)
    assert torch.equal(plain(images), before)
    assert not torch.allclose(visual(images), before)


@pytest.mark.parametrize("core", REPARAMETERIZATIONS)
def test_every_prompt_and_no_frozen_weight_gets_a_gradient(images: torch.Tensor, core: str):
    visual = prompted(
        moved=True, reparameterization=core, temporal_embedding=True, gate=True, global_per_frame=True
    )
    visual.temporal_prompts.requires_grad_(True)
    visual(images).square().sum().backward()
    without = {name for name, p in visual.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {name for name, _ in visual.named_parameters() if not is_new(f"visual.{name}")}


def test_gradients_are_the_same_with_checkpointing(images: torch.Tensor):
    found = []
    for checkpointing in (False, True):
        visual = prompted(moved=True, reparameterization="r2plus1d", gate=True)
        visual.temporal_prompts.requires_grad_(True)
        visual.set_grad_checkpointing(checkpointing)
        visual(images).square().sum().backward()
        found.append(visual.temporal_prompts.layers[0].local_prompts.grad)
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize(
    ("settings", "knows_order"),
    [
        ({"parts": "G"}, False),
        ({"parts": "C"}, False),
        ({"parts": "CG", "gate": True}, False),
        ({"parts": "CG", "reparameterization": "mlp"}, False),
        ({"parts": "CG", "reparameterization": "lstm"}, False),
        ({"parts": "CG", "reparameterization": "transformer"}, False),
        ({"parts": "CG", "reparameterization": "r2plus1d"}, True),
        ({"parts": "CG", "reparameterization": "c3d"}, True),
        ({"parts": "CG", "reparameterization": "tada"}, True),
        ({"parts": "G", "temporal_embedding": True}, True),
        ({"parts": "CG", "global_per_frame": True}, True),
        ({"parts": "I"}, True),
        ({"parts": "CGI"}, True),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_the_order_of_the_frames_counts_with_messages_or_time_alone(
    images: torch.Tensor, settings: dict[str, Any], knows_order: bool
):
    visual = prompted(moved=True, **settings)
    features = visual(images).unflatten(0, (B, T))
    worst = 0.0
    for order in itertools.permutations(range(T)):
        shuffled = visual(images.unflatten(0, (B, T))[:, order].flatten(0, 1)).unflatten(0, (B, T))
        worst = max(worst, float((shuffled.mean(dim=1) - features.mean(dim=1)).abs().max()))
        if not knows_order:
            torch.testing.assert_close(shuffled, features[:, order], rtol=0, atol=1e-9)
    assert worst > 1e-4 if knows_order else worst < 1e-9


@pytest.mark.parametrize(("parts", "others"), [("G", False), ("C", True), ("I", True)])
def test_frames_of_a_clip_see_each_other_and_clips_do_not(images: torch.Tensor, parts: str, others: bool):
    visual = prompted(moved=True, parts=parts)
    before = visual(images)
    images[1] += 1
    changed = (visual(images) != before).any(dim=1).tolist()
    assert changed == [others, True, others, *[False] * T]


def test_the_temporal_embedding_is_added_once(images: torch.Tensor):
    """To all tokens of frame t, before the first block, also where the first block has no prompts."""
    visual = prompted(parts="G", layers="last:1", temporal_embedding=True)
    plain = copy.deepcopy(visual)
    torch.testing.assert_close(visual(images), plain(images), rtol=0, atol=0)
    seen: list[torch.Tensor] = []
    visual.transformer.resblocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    visual(images)
    visual.temporal_prompts.temporal_embedding[:] = torch.arange(T)[:, None]
    visual(images)
    added = (seen[1] - seen[0]).unflatten(0, (B, T))
    torch.testing.assert_close(added, torch.arange(T).double()[None, :, None, None].expand_as(added))
    assert len(seen) == 2


def test_the_last_layers_alone_have_prompts(images: torch.Tensor):
    visual = prompted(layers="last:2", reparameterization="mlp")
    names = [type(block).__name__ for block in visual.transformer.resblocks]
    assert names == ["ResidualAttentionBlock", "PromptedBlock", "PromptedBlock"]
    assert len(visual.temporal_prompts.layers) == len(visual.temporal_prompts.reparameterizations) == 2
    with pytest.raises(ValueError, match="layers last:4: the tower has 3"):
        prompted(layers="last:4")


def test_layers_may_share_beta(images: torch.Tensor):
    own, shared = (prompted(reparameterization="c3d", shared=each) for each in (False, True))
    counts = [
        sum(p.numel() for p in each.temporal_prompts.reparameterizations.parameters())
        for each in (own, shared)
    ]
    assert counts[0] == 3 * counts[1]
    assert len(shared.temporal_prompts.reparameterizations) == 1
    before = shared(images)
    shared.temporal_prompts.reparameterizations[0].up.bias += torch.arange(WIDTH)
    assert not torch.allclose(shared(images), before)


@pytest.mark.parametrize("core", [core for core in REPARAMETERIZATIONS if core != "none"])
def test_the_residual_begins_as_plain_prompts(images: torch.Tensor, core: str):
    torch.manual_seed(0)
    plain, with_residual, without = (
        prompted(),
        prompted(reparameterization=core),
        prompted(reparameterization=core, residual=False),
    )
    torch.testing.assert_close(with_residual(images), plain(images), rtol=0, atol=1e-9)
    assert not torch.allclose(without(images), plain(images), atol=1e-3)
    seen: list[torch.Tensor] = []
    without.transformer.resblocks[0].register_forward_pre_hook(
        lambda block, inputs: seen.append(block._prompts[0].of_layer(0, inputs[0]))
    )
    without(images)
    assert seen[0].std(dim=1).max() > 1e-3, "all prompts are one constant"


def test_parameters_are_as_many_as_the_paper_has():
    """ViT-B/16, T = S = 8: 54.2 M in Table 6, but 106.8 M are 100 % and 131.5 M are 147 % more (53.27 to 53.35)."""
    counts = {}
    for core in ("none", "r2plus1d"):
        config = PromptConfig(reparameterization=core)
        visual = load_outline("ViT-B-16", tower=TowerConfig("temporal-prompts", 8, prompts=config))
        counts[core] = sum(p.numel() for name, p in visual.named_parameters() if is_new(f"visual.{name}"))
    assert counts == {"none": 35_601_408, "r2plus1d": 53_337_600}


@pytest.mark.parametrize("share", [0.5, 1.0, 3.0])
def test_prompts_begin_as_large_as_the_tokens_they_join(share: float):
    """Root mean square of g and i over that of the tokens before their layer, of noise that is seen as an image."""
    visual, plain = prompted(init=share, global_prompts=500), vision_transformer()
    tokens: list[torch.Tensor] = []
    for block in plain.transformer.resblocks:
        block.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
    plain(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(5)).double())
    for layer, before in zip(visual.temporal_prompts.layers, tokens, strict=True):
        ratio = layer.global_prompts.square().mean().sqrt() / before.square().mean().sqrt()
        assert float(ratio) == pytest.approx(share, rel=0.1)


def test_prompts_begin_as_in_vita_clip():
    visual = prompted(init="vita", global_prompts=500)
    bound = math.sqrt(6 / (3 * 8**2 + WIDTH))
    layer = visual.temporal_prompts.layers[0]
    assert 0.999 * bound < float(layer.global_prompts.abs().max()) <= bound
    assert float(layer.local_prompts.abs().max()) <= bound
    assert torch.equal(layer.projection.weight, torch.eye(WIDTH).double())
    assert not layer.projection.bias.any()
    assert prompted(gate=True).temporal_prompts.layers[0].gate.tolist() == [-4.0] * HEADS


def test_the_start_follows_from_the_seed():
    first, again, other = (prompted(seed=seed, reparameterization="tada") for seed in (0, 0, 1))
    states = [each.temporal_prompts.state_dict() for each in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for name in ("layers.0.local_prompts", "layers.2.global_prompts", "reparameterizations.1.down.weight"):
        assert not torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": "IC"}, "parts must be one of C, G, I, CG, CI, GI, CGI, got 'IC'"),
        ({"global_prompts": 0}, "global_prompts must be a whole number from 1"),
        ({"global_prompts": True}, "global_prompts must be a whole number from 1"),
        ({"layers": "last:0"}, "layers must be all, or last:K"),
        ({"layers": "first:2"}, "layers must be all, or last:K"),
        ({"init": "zero"}, "init must be one of vita, got 'zero'"),
        ({"init": 0.0}, "init must be above 0"),
        ({"init": math.nan}, "init must be above 0"),
        ({"init": None}, "init must be vita or a share"),
        ({"gate": 1}, "gate must be true or false, got 1"),
        ({"reparameterization": "r3d"}, "reparameterization must be one of none, mlp"),
    ],
)
def test_rejects_settings_that_cannot_be(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PromptConfig(**settings)


def test_prompts_go_with_their_tower():
    with pytest.raises(ValueError, match="prompts go with temporal-prompts, not with tsm"):
        TowerConfig("tsm", T, prompts=PromptConfig())
    assert TowerConfig("temporal-prompts", T).prompts == PromptConfig()


TIMM = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"layers": [1, 1, 1, 1], "width": 8, "patch_size": None}, "cannot be put inside a ModifiedResNet"),
        (TIMM, "cannot be put inside a TimmModel"),
        ({"attentional_pool": True, "attn_pooler_heads": 2}, "inside a VisionTransformer: .*class token"),
        ({"pool_type": "avg"}, "inside a VisionTransformer: it needs open_clip's own vision transformer"),
        ({"width": 66, "head_width": 33}, "needs a width that 4 divides, and the tower's is 66"),
    ],
)
def test_towers_that_cannot_take_prompts_are_named(vision: dict[str, Any], message: str):
    network: Any = open_clip.CLIP(**{**TINY_CONFIG, "vision_cfg": {**TINY_CONFIG["vision_cfg"], **vision}})
    with pytest.raises(ValueError, match=f"temporal-prompts .*{message}"):
        change_tower(network.visual, TowerConfig("temporal-prompts", T))


def test_damaged_descriptions_are_refused(tmp_path: Path):
    folder = save_model_folder(tmp_path / "m", TINY_CONFIG)
    config = TowerConfig("temporal-prompts", T, prompts=PromptConfig(parts="GI", init="vita"))
    tower = json.loads(json.dumps(config.to_dict()))
    assert TowerConfig.from_dict(tower) == config
    for wrong, message in (
        ({**tower, "prompts": {**tower["prompts"], "code": "x"}}, "there is no setting 'code' of prompts"),
        ({**tower, "prompts": {"parts": ["C"]}}, "parts must be one of"),
        ({**tower, "prompts": {"layers": "last:9"}}, "layers last:9: the tower has 2"),
        ({**tower, "prompts": "CGI"}, "prompts must be a table"),
        ({**tower, "kind": "tsm"}, "prompts go with temporal-prompts"),
        ({**tower, "more": 1}, "does not say what is inside"),
        (tower, "temporal_prompts.layers"),  # the weights lack it
    ):
        document = {"format": "vidclip-model", "version": 1, "tower": wrong}
        (folder / "vidclip_model.json").write_text(json.dumps(document))
        with pytest.raises(EncoderError, match=message):
            load_encoder(f"local-dir:{folder}", device="cpu")
