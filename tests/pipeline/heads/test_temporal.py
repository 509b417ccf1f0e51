"""Temporal modules equal their formulas, written out otherwise, and start where the pre-trained encoder stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidclip.pipeline.choices import TEMPORAL
from vidclip.pipeline.heads import temporal_module


def some_frames(rng, videos=3, times=5, dimension=16, scale=0.4):
    return torch.from_numpy(rng.standard_normal((videos, times, dimension)).astype(np.float32) * scale)


def trained(module, rng):
    """The module with weights that are nowhere zero, as after training."""
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32))
            parameter += noise * 0.5 * parameter.shape[-1] ** -0.5
    return module


# --- values


def test_mean_changes_nothing(rng):
    frames = some_frames(rng)
    assert torch.equal(temporal_module("mean", 16, 5)(frames), frames)


def test_conv_is_a_depthwise_convolution_over_time(rng):
    module = trained(temporal_module("conv", 16, 5), rng)
    frames = some_frames(rng)
    [weight] = module.parameters()
    convolved = F.conv1d(frames.transpose(1, 2), weight.T[:, None], padding=1, groups=16).transpose(1, 2)
    torch.testing.assert_close(module(frames), frames + convolved)
    one = some_frames(rng, times=1)
    torch.testing.assert_close(
        module(one), one * (1 + weight[1]), msg="of one frame, both neighbors are zero"
    )


def twin(module, frames, heads):
    """blocks(x + positions) + x, out of torch's own attention, in float64, with the module's weights."""
    weights = {name: tensor.double() for name, tensor in module.state_dict().items()}
    dimension = frames.shape[2]
    x = frames.double() + weights["positions"]
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for layer in range(layers):
        own = {
            k.removeprefix(f"blocks.{layer}."): w
            for k, w in weights.items()
            if k.startswith(f"blocks.{layer}.")
        }
        attention = torch.nn.MultiheadAttention(dimension, heads, batch_first=True, dtype=torch.float64)
        attention.load_state_dict(
            {
                "in_proj_weight": own["attention_in.weight"],
                "in_proj_bias": own["attention_in.bias"],
                "out_proj.weight": own["attention_out.weight"],
                "out_proj.bias": own["attention_out.bias"],
            }
        )
        y = F.layer_norm(x, (dimension,), own["attention_norm.weight"], own["attention_norm.bias"])
        x = x + attention(y, y, y, need_weights=False)[0]
        y = F.layer_norm(x, (dimension,), own["mlp_norm.weight"], own["mlp_norm.bias"])
        y = y @ own["mlp_in.weight"].T + own["mlp_in.bias"]
        y = y / (1 + torch.exp(-1.702 * y))
        x = x + y @ own["mlp_out.weight"].T + own["mlp_out.bias"]
    return (x + frames.double()).detach(), layers


@pytest.mark.parametrize(
    ("kind", "dimension", "options", "heads", "layers"),
    [
        ("transformer", 128, {}, 2, 6),  # D / 64
        ("transformer", 40, {}, 1, 6),
        ("transformer", 48, {"heads": 4}, 4, 6),
        ("mit", 64, {}, 8, 1),
        ("mit", 768, {}, 12, 1),  # X-CLIP's L
        ("mit", 1024, {}, 8, 1),  # 12 does not divide it
        ("mit", 48, {"heads": 6}, 6, 1),
    ],
)
def test_transformers_equal_their_formula(rng, kind, dimension, options, heads, layers):
    module = trained(temporal_module(kind, dimension, 5, **options), rng)
    frames = some_frames(rng, dimension=dimension)
    expected, found_layers = twin(module, frames, heads)
    assert found_layers == layers
    assert module(frames).shape == frames.shape
    torch.testing.assert_close(module(frames).double(), expected, rtol=1e-4, atol=1e-4)


# --- where training starts


@pytest.mark.parametrize(("kind", "layers"), [("transformer", 6), ("mit", 1)])
def test_the_usual_start_draws_the_same_weights_as_ever(kind, layers):
    """As written out here, to the bit: a recipe that is run again begins with the same head."""
    dimension, found = 16, temporal_module(kind, 16, 5, seed=3, position_std=0.1).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        positions = torch.randn(5, dimension) * 0.1
        assert torch.equal(found["positions"], positions - positions.mean(dim=0))
        for layer in range(layers):
            linears = [
                torch.nn.Linear(dimension, times * dimension) for times in (3, 1, 4)
            ]  # each takes from the generator
            torch.nn.Linear(4 * dimension, dimension)
            for name, linear, std in (
                ("attention_in", linears[0], 16**-0.5),
                ("mlp_in", linears[2], 32**-0.5),
            ):
                torch.nn.init.normal_(linear.weight, std=std)
                assert torch.equal(found[f"blocks.{layer}.{name}.weight"], linear.weight)
            for name in ("attention_out", "mlp_out"):
                assert not found[f"blocks.{layer}.{name}.weight"].any()


@pytest.mark.parametrize("kind", ["transformer", "mit"])
def test_the_released_start_has_the_released_distributions(kind):
    """Of 256 dimensions: N(0, 0.02), but uniform up to sqrt(6 / (D + 3 D)) for queries, keys and values."""
    module = temporal_module(kind, 256, 64, start="released", position_std=9, seed=1)
    bound = (6 / (256 + 3 * 256)) ** 0.5
    for name, weights in module.state_dict().items():
        if "norm" in name:
            assert torch.equal(weights, torch.full_like(weights, float(name.endswith("weight")))), name
        elif name.endswith("bias"):
            assert not weights.any(), name
        else:
            uniform = name.endswith("attention_in.weight")
            std, fourth = (bound / 3**0.5, 1.8) if uniform else (0.02, 3.0)
            assert abs(weights.mean()) < 4 * std / weights.numel() ** 0.5, name
            assert weights.std() == pytest.approx(std, rel=0.03), name
            assert ((weights / weights.std()) ** 4).mean() == pytest.approx(fourth, rel=0.1), name
            assert weights.abs().max() <= bound or not uniform, name
    again = temporal_module(kind, 256, 64, start="released", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
    other = temporal_module(kind, 256, 64, start="released", seed=2)
    assert not torch.equal(module.positions, other.positions)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_untrained_the_pooled_embedding_keeps_its_direction(rng, kind):
    frames = some_frames(rng, times=8, dimension=64)
    factor = 2 if kind in ("transformer", "mit") else 1
    module = temporal_module(kind, 64, 8)
    torch.testing.assert_close(module(frames).mean(dim=1), factor * frames.mean(dim=1), rtol=1e-5, atol=1e-6)
    if factor == 2:
        positions = (module(frames) - 2 * frames)[0]
        assert 0.008 < positions.std() < 0.012
        torch.testing.assert_close(module(frames)[1] - 2 * frames[1], positions, rtol=1e-3, atol=1e-6)
        assert temporal_module(kind, 64, 8, position_std=3.0).positions.std() > 2


@pytest.mark.parametrize("kind", ["conv", "transformer", "mit"])
def test_modules_learn_the_order_of_frames(rng, kind):
    """Two classes with the same frames in opposite order: no pooling alone tells them apart."""
    frames = some_frames(rng, videos=1, times=4, dimension=16, scale=1.0)
    videos = torch.cat([frames, frames.flip(1)])
    module = temporal_module(kind, 16, 4, **({} if kind == "conv" else {"heads": 2}))
    head = torch.nn.Linear(16, 2)
    before = head(module(videos).mean(dim=1)).softmax(dim=1)
    torch.testing.assert_close(before[0], before[1], rtol=1e-3, atol=1e-3)
    optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=0.02)
    for _ in range(40):
        loss = F.cross_entropy(head(module(videos).mean(dim=1)), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in module.parameters())
        optimizer.step()
    assert head(module(videos).mean(dim=1)).argmax(dim=1).tolist() == [0, 1]


def test_without_positions_the_order_is_not_seen(rng):
    module = trained(temporal_module("transformer", 32, 5), rng)
    frames, order = some_frames(rng, dimension=32), torch.tensor([3, 0, 4, 1, 2])
    assert (module(frames[:, order]) - module(frames)[:, order]).abs().max() > 0.01
    module.positions.data.zero_()
    torch.testing.assert_close(module(frames[:, order]), module(frames)[:, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_the_same_seed_is_the_same_module_and_the_same_gradient(rng, kind):
    state = torch.get_rng_state()
    modules = [temporal_module(kind, 64, 4, seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state), "no random number of others is used up"
    frames = some_frames(rng, videos=64, times=4, dimension=64)
    gradients = []
    for module in modules:
        leaf = frames.clone().requires_grad_()
        module(leaf).square().sum().backward()
        gradients.append([leaf.grad, *(p.grad for p in module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients[:2], strict=True))
    if kind in ("transformer", "mit"):
        assert not torch.equal(modules[0].positions, modules[2].positions)


# --- what does not fit


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("max", 16, 4), {}, "must be one of mean, conv, transformer, mit, got 'max'"),
        (("transformer", 200, 4), {}, "200 dimensions cannot be shared among 3 heads"),
        (("mit", 20, 4), {}, "20 dimensions cannot be shared among 8 heads"),
    ],
)
def test_rejects_kinds_and_dimensions_that_do_not_fit(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        temporal_module(*arguments, **options)


def test_rejects_frames_that_do_not_fit(rng):
    for kind in ("transformer", "mit"):
        with pytest.raises(ValueError, match="made for 8 frames a video, these have 5"):
            temporal_module(kind, 16, 8, heads=1)(some_frames(rng))
    for kind in ("conv", "transformer", "mit"):
        module = temporal_module(kind, 32, 5)
        with pytest.raises(ValueError, match="have 16 dimensions, but 32"):
            module(some_frames(rng))
        with pytest.raises(ValueError, match=r"must be \[B, T, D\]"):
            module(torch.zeros(5, 32))
    assert temporal_module("conv", 16, 8)(some_frames(rng)).shape == (3, 5, 16), "it takes any number"
