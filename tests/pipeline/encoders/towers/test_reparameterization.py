"""The cores of the reparameterization encoder, each against a loop over frames and prompts, or another library."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from vidclip.pipeline.encoders.towers.reparameterization import Reparameterization

B, T, P, W = 2, 4, 5, 16
D = W // 2


def beta(core: str, *, residual: bool = True, width: int = W) -> Any:
    torch.manual_seed(0)
    return Reparameterization(core, width, residual).double().requires_grad_(False)


@pytest.fixture
def h() -> torch.Tensor:
    return torch.randn(B, T, P, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def convolved(h: torch.Tensor, conv: nn.Conv2d, factors: torch.Tensor | None = None) -> torch.Tensor:
    """[B, T, P, d]: a sum over the taps of a kernel over (frames, prompts); zeros beyond the ends."""
    weight, bias = conv.weight, conv.bias
    reach = [side // 2 for side in weight.shape[2:]]
    found = torch.zeros_like(h)
    for b in range(B):
        for t in range(T):
            for p in range(P):
                found[b, t, p] = bias
                for i in range(weight.shape[2]):
                    for j in range(weight.shape[3]):
                        s, q = t + i - reach[0], p + j - reach[1]
                        if 0 <= s < T and 0 <= q < P:
                            kernel = weight[:, :, i, j]
                            if factors is not None:
                                kernel = kernel * factors[b, t]
                            found[b, t, p] += kernel @ h[b, s, q]
    return found


def test_beta_is_a_bottleneck_around_its_core():
    prompts = torch.randn(B, T, P, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for residual in (True, False):
        module = beta("mlp", residual=residual)
        module.up.weight[:] = torch.randn(W, D, generator=torch.Generator().manual_seed(1))
        normed = (prompts - prompts.mean(-1, keepdim=True)) / (
            prompts.var(-1, keepdim=True, unbiased=False) + 1e-5
        ).sqrt()
        hidden = gelu(normed @ module.down.weight.T + module.down.bias)
        expected = hidden @ module.up.weight.T + module.up.bias + (prompts if residual else 0)
        torch.testing.assert_close(module(prompts), expected)


def test_r2plus1d_equals_a_loop(h: torch.Tensor):
    core = beta("r2plus1d").core
    over_prompts, over_frames = (layer for layer in core.modules() if isinstance(layer, nn.Conv2d))
    assert (over_prompts.kernel_size, over_frames.kernel_size) == ((1, 3), (3, 1))
    torch.testing.assert_close(core(h), gelu(convolved(gelu(convolved(h, over_prompts)), over_frames)))


def test_c3d_equals_a_loop(h: torch.Tensor):
    core = beta("c3d").core
    conv = next(layer for layer in core.modules() if isinstance(layer, nn.Conv2d))
    assert conv.kernel_size == (3, 3)
    torch.testing.assert_close(core(h), gelu(convolved(h, conv)))


def test_tada_scales_the_kernel_of_each_frame(h: torch.Tensor):
    core = beta("tada").core
    torch.testing.assert_close(core(h), gelu(convolved(h, core.conv)), msg="it does not begin as plain")
    generator = torch.Generator().manual_seed(1)
    core.b.weight[:] = torch.randn(core.b.weight.shape, generator=generator)
    core.b.bias[:] = torch.randn(core.b.bias.shape, generator=generator)

    def over_time(x: torch.Tensor, conv: nn.Conv1d) -> torch.Tensor:
        rows = []
        for t in range(T):
            row = conv.bias.clone()
            for i in range(3):
                if 0 <= t + i - 1 < T:
                    row = row + conv.weight[:, :, i] @ x[t + i - 1]
            rows.append(row)
        return torch.stack(rows)

    factors = []
    for clip in h:
        v = torch.stack([frame.mean(dim=0) for frame in clip])
        v = v + v.mean(dim=0) @ core.g.weight.T + core.g.bias
        factors.append(1 + over_time(torch.relu(over_time(v, core.a)), core.b))
    expected = gelu(convolved(h, core.conv, torch.stack(factors)))
    torch.testing.assert_close(core(h), expected)
    assert not torch.allclose(expected, gelu(convolved(h, core.conv)))


def test_lstm_runs_over_the_prompts_of_a_frame_both_ways(h: torch.Tensor):
    core = beta("lstm").core
    weights, size = core.lstm, D // 2

    def one_way(rows: torch.Tensor, suffix: str) -> list[torch.Tensor]:
        state, cell, found = torch.zeros(size).double(), torch.zeros(size).double(), []
        for row in rows:
            gates = getattr(weights, f"weight_ih_l0{suffix}") @ row + getattr(weights, f"bias_ih_l0{suffix}")
            gates = gates + getattr(weights, f"weight_hh_l0{suffix}") @ state
            gates = gates + getattr(weights, f"bias_hh_l0{suffix}")
            i, f, g, o = gates.chunk(4)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            state = o.sigmoid() * cell.tanh()
            found.append(state)
        return found

    expected = torch.stack(
        [
            torch.stack(
                [
                    torch.cat([ahead, back])
                    for ahead, back in zip(
                        one_way(frame, ""), one_way(frame.flip(0), "_reverse")[::-1], strict=True
                    )
                ]
            )
            for clip in h
            for frame in clip
        ]
    ).unflatten(0, (B, T))
    torch.testing.assert_close(core(h), expected)
    assert core.eval().lstm.training, "cuDNN has gradients in training mode alone"


def test_transformer_equals_torchs_over_all_prompts_of_a_clip(h: torch.Tensor):
    core = beta("transformer").core
    expected = h.flatten(1, 2)
    for block in core.blocks:
        layer = nn.TransformerEncoderLayer(
            D, block.attn.num_heads, 2 * D, dropout=0, activation="gelu", batch_first=True, norm_first=True
        ).double()
        names = {
            "attn.": "self_attn.", "ln_1.": "norm1.", "ln_2.": "norm2.", "mlp.c_fc.": "linear1.",
            "mlp.c_proj.": "linear2.",
        }  # fmt: skip
        state = {}
        for name, tensor in block.state_dict().items():
            old = next(old for old in names if name.startswith(old))
            state[names[old] + name.removeprefix(old)] = tensor
        layer.load_state_dict(state)
        expected = layer(expected)
    torch.testing.assert_close(core(h), expected.unflatten(1, (T, P)))
    assert len(core.blocks) == 2


@pytest.mark.parametrize(("width", "heads"), [(32, 1), (256, 2), (768, 6), (400, 2), (1024, 8)])
def test_transformer_has_a_head_for_64_channels(width: int, heads: int):
    with torch.device("meta"):
        core: Any = Reparameterization("transformer", width, True).core
    assert [block.attn.num_heads for block in core.blocks] == [heads, heads]


def test_cores_have_the_parameters_of_their_formulas():
    d = D
    expected = {
        "mlp": 0,
        "lstm": 2 * (4 * (d // 2) * (d + d // 2) + 8 * (d // 2)),
        "transformer": 2 * (4 * d * d + 4 * d + 4 * d * d + 3 * d + 4 * d),
        "r2plus1d": 2 * (3 * d * d + d),
        "c3d": 9 * d * d + d,
        "tada": (3 * d * d + d) + (d * d + d) + (3 * d * d // 4 + d // 4) + (3 * d * d // 4 + d),
    }
    around = 2 * W + (W * d + d) + (d * W + W)
    for core, count in expected.items():
        assert sum(p.numel() for p in beta(core).parameters()) == around + count, core
