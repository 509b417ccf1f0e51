"""Shifts over time inside a tower, against loops over clips, frames and channels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet

from helpers import TINY_CONFIG, save_model_folder
from vidclip.pipeline import load_encoder
from vidclip.pipeline.encoders import EncoderError, TowerConfig
from vidclip.pipeline.encoders.towers.build import change_tower
from vidclip.pipeline.encoders.towers.token_shift import T1D, TokenShift, shift

B, T, D = 2, 3, 16
VISION = TINY_CONFIG["vision_cfg"]


def shifted(x: np.ndarray, share: int) -> np.ndarray:
    """x [B T, C, ...] by a loop: the first C // share channels from the next frame, as many from the one before."""
    out, fold = np.zeros_like(x), x.shape[1] // share
    for b in range(len(x) // T):
        for t in range(T):
            for c in range(x.shape[1]):
                source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
                if 0 <= source < T:
                    out[b * T + t, c] = x[b * T + source, c]
    return out


@pytest.fixture
def tokens(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((B * T, D)))


@pytest.mark.parametrize("share", [4, 8])
def test_shift_equals_a_loop(rng: np.random.Generator, share: int):
    maps = rng.standard_normal((B * T, D, 2, 3))
    np.testing.assert_array_equal(shift(torch.from_numpy(maps), T, share), shifted(maps, share))


@pytest.mark.parametrize("places", [(), (2, 3)], ids=["tokens", "maps"])
def test_t1d_equals_a_loop(rng: np.random.Generator, places: tuple[int, ...]):
    x, module = rng.standard_normal((B * T, D, *places)), T1D(T, D, "shift", 4).double()
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(rng.standard_normal((D, 1, 3))))
    weight, expected = module.weight.detach().numpy()[:, 0], np.zeros_like(x)
    for b in range(B):
        for t in range(T):
            for c in range(D):
                for k, source in enumerate((t - 1, t, t + 1)):
                    if 0 <= source < T:
                        expected[b * T + t, c] += weight[c, k] * x[b * T + source, c]
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach(), expected, atol=1e-12)


def test_token_t1d_starts_as_a_shift_or_as_the_identity(tokens: torch.Tensor):
    begun = T1D(T, D, "shift", 4).double()(tokens)
    torch.testing.assert_close(begun, TokenShift(T)(tokens), rtol=0, atol=0)
    np.testing.assert_array_equal(begun.detach(), shifted(tokens.numpy(), 4))
    torch.testing.assert_close(T1D(T, D, "fixed", 4).double()(tokens), tokens, rtol=0, atol=0)


def tower(kind: str, start: str | None = None, **vision: Any) -> Any:
    torch.manual_seed(0)
    config = {**TINY_CONFIG, "vision_cfg": {**VISION, **vision}}
    network: Any = open_clip.CLIP(**config)
    for name, parameter in network.visual.named_parameters():
        if name.endswith("bn3.weight"):  # a ResNet's branches begin at zero
            torch.nn.init.ones_(parameter)
    if kind != "none":
        change_tower(network.visual, TowerConfig(kind, T, start))
    return network.visual.double().eval()


TIMM = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None}


@pytest.mark.parametrize(
    ("kind", "vision"),
    [("token-t1d", {}), ("token-shift", {}), ("tsm", {}), ("tsm", RESNET), ("token-t1d", RESNET)],
)
def test_frames_of_a_clip_see_each_other_and_clips_do_not(kind: str, vision: dict, rng: np.random.Generator):
    visual, plain = tower(kind, **vision), tower("none", **vision)
    images = torch.from_numpy(rng.standard_normal((B * T, 3, 32, 32)))
    with torch.no_grad():
        before, untouched = visual(images), plain(images)
        images[1] += 1
        after = visual(images)
    assert not torch.allclose(before, untouched)
    changed = (before != after).any(dim=1).tolist()
    assert changed[T:] == [False] * T, "another clip"
    assert changed[:T] == [True] * T, "the frames beside the one that was changed"


def test_a_fixed_start_leaves_the_tower_as_it_is(rng: np.random.Generator):
    images = torch.from_numpy(rng.standard_normal((B * T, 3, 32, 32)))
    with torch.no_grad():
        plain, fixed = tower("none")(images), tower("token-t1d", "fixed")(images)
        shift_, t1d = tower("token-shift")(images), tower("token-t1d")(images)
    torch.testing.assert_close(fixed, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(t1d, shift_, rtol=0, atol=1e-12)
    assert not torch.allclose(t1d, plain)


def test_t1d_of_a_resnet_is_in_its_last_two_stages(rng: np.random.Generator):
    """res4 and res5 (Text4Vis, Table 8), from TSM's shift or the identity."""
    vision = {**RESNET, "layers": [2, 1, 2, 1]}
    visual = tower("token-t1d", **vision)
    found = [name for name, module in visual.named_modules() if type(module) is T1D]
    assert found == ["layer3.0.temporal", "layer3.1.temporal", "layer4.0.temporal"]
    maps = torch.from_numpy(rng.standard_normal((B * T, visual.layer3[0].conv1.in_channels, 2, 2)))
    with torch.no_grad():
        np.testing.assert_array_equal(visual.layer3[0].temporal(maps), shifted(maps.numpy(), 8))
        seen: list[torch.Tensor] = []
        visual.layer3[0].conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        visual.layer3[0](maps)
        np.testing.assert_array_equal(seen[0], shifted(maps.numpy(), 8))
        images = torch.from_numpy(rng.standard_normal((B * T, 3, 32, 32)))
        plain, fixed = tower("none", **vision)(images), tower("token-t1d", "fixed", **vision)(images)
    torch.testing.assert_close(fixed, plain, rtol=0, atol=1e-12)


def test_a_block_mixes_its_class_token_twice(rng: np.random.Generator):
    """The formula: c <- shift(c), attention, c <- shift(c), MLP, on the residual stream itself."""
    block, plain = (tower(kind).transformer.resblocks[0] for kind in ("token-shift", "none"))
    x = torch.from_numpy(rng.standard_normal((B * T, 5, VISION["width"])))

    def mix(y: torch.Tensor) -> torch.Tensor:
        token = torch.from_numpy(shifted(y[:, 0].numpy(), 4))
        return torch.cat([token[:, None], y[:, 1:]], dim=1)

    with torch.no_grad():
        y = mix(x)
        y = mix(y + plain.attention(plain.ln_1(y)))
        expected = y + plain.mlp(plain.ln_2(y))
        torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_tsm_shifts_every_second_bottleneck_of_a_long_stage():
    resnet = ModifiedResNet([1, 1, 23, 1], 16, 2, image_size=32, width=8)
    change_tower(resnet, TowerConfig("tsm", T))
    hooked = [[bool(b.conv1._forward_pre_hooks) for b in stage] for stage in (resnet.layer1, resnet.layer3)]
    assert hooked[0] == [True]
    assert hooked[1] == [place % 2 == 0 for place in range(23)]


@pytest.mark.parametrize(
    ("kind", "vision", "message"),
    [
        ("token-shift", RESNET, "token-shift cannot be put inside a ModifiedResNet"),
        ("token-t1d", TIMM, "token-t1d cannot be put inside a TimmModel: it needs .*, or its ResNet"),
        (
            "tsm",
            {"attentional_pool": True, "attn_pooler_heads": 2},
            "with a class token that is its embedding",
        ),
        ("cross-frame", RESNET, "cross-frame cannot be put inside a ModifiedResNet"),
        ("tsm", {"pool_type": "avg"}, "tsm cannot be put inside a VisionTransformer"),
        (
            "token-shift",
            {"width": 66, "head_width": 33},
            "needs a width that 4 divides, and the tower's is 66",
        ),
    ],
)
def test_towers_that_cannot_take_it_are_named(kind: str, vision: dict, message: str):
    with pytest.raises(ValueError, match=message):
        tower(kind, **vision)


def test_damaged_descriptions_are_refused(tmp_path: Path):
    folder = save_model_folder(tmp_path / "m", TINY_CONFIG)
    good = {"format": "vidclip-model", "version": 1, "tower": {"kind": "token-shift", "frames": T}}
    (folder / "vidclip_model.json").write_text(json.dumps(good))
    encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    assert encoder.frames_per_sample == T
    assert encoder.identity["architecture"]["tower"] == good["tower"]
    for wrong, message in (
        ({**good, "version": 2}, "another format or version"),
        ({**good, "tower": {"kind": "token-shift"}}, "does not say what is inside"),
        ({**good, "tower": {"kind": "x", "frames": T}}, "kind must be one of"),
        ({**good, "tower": {"kind": "tsm", "frames": 0}}, "frames must be a whole number"),
        ({**good, "tower": {"kind": "token-t1d", "frames": T}}, "temporal.weight"),  # the weights lack it
    ):
        (folder / "vidclip_model.json").write_text(json.dumps(wrong))
        with pytest.raises(EncoderError, match=message):
            load_encoder(f"local-dir:{folder}", device="cpu")
    shutil.rmtree(folder)
