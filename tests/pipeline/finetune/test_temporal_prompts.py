"""Trainings of temporal prompts: what changes, what does not, and in which order it comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidclip.pipeline import load_encoder, load_head
from vidclip.pipeline.choices import REPARAMETERIZATIONS
from vidclip.pipeline.encoders import is_new
from vidclip.pipeline.encoders.identity import weights_digest
from vidclip.pipeline.finetune import FinetuneError, Finetuning
from vidclip.pipeline.finetune.precision import longest_sequence

Begin = Callable[..., Finetuning]
SMALL = {"held_out": 0.0, "epochs": 2, "learning_rate": 1e-2, "global_prompts": 2}


class Killed(Exception):
    pass


def frozen_part(network: Any) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if not is_new(name)}


def test_prompts_are_trained_and_the_towers_are_not(begin: Begin, tmp_path: Path, tiny_model: str):
    base = load_encoder(tiny_model, device="cpu", precision="fp32")
    training = begin(tmp_path / "out", "temporal-prompts", **SMALL)
    assert {group["name"]: group["weight_decay"] for group in training.loop.groups} == {
        "tower": 0.01, "tower, without decay": 0.0,
    }  # fmt: skip
    network = training.loop.model.network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    training.run()
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if not is_new(name))
    after = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    state = after.network.state_dict()
    assert {name for name in state if is_new(name) and torch.equal(state[name], before[name])} == set()
    frozen = load_encoder(tiny_model, device="cpu", precision="fp32").network
    frozen.load_state_dict(frozen_part(after.network))
    assert weights_digest(frozen) == base.identity["weights_sha256"] != after.identity["weights_sha256"]
    assert after.identity["architecture"]["tower"]["prompts"]["global_prompts"] == 2
    stored = load_head(tmp_path / "out" / "head.safetensors")
    assert (stored.identity.sampling["position"], stored.module.config.pool) == ("middle", "vcs")


def test_vectors_norms_and_biases_do_not_decay(begin: Begin, tmp_path: Path):
    model = begin(tmp_path, "temporal-prompts", temporal_embedding=True, prompt_gate=True, **SMALL).loop
    names = {id(parameter): name for name, parameter in model.model.named_parameters()}
    decaying = {names[id(p)] for group in model.groups if group["weight_decay"] for p in group["params"]}
    kept = {names[id(p)] for group in model.groups if not group["weight_decay"] for p in group["params"]}
    assert {name.rpartition(".")[2] for name in decaying} == {"weight", "in_proj_weight"}
    assert not any("norm" in name for name in decaying)
    vectors = {
        "global_prompts",
        "local_prompts",
        "temporal_embedding",
        "gate",
        "bias",
        "in_proj_bias",
        "weight",
    }
    assert {name.rpartition(".")[2] for name in kept} == vectors
    assert all("norm" in name for name in kept if name.endswith("weight"))


def test_the_trained_tower_gives_what_its_training_saw(begin: Begin, tmp_path: Path):
    training = begin(tmp_path / "out", "temporal-prompts", **SMALL)
    training.run()
    encoder = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    assert encoder.frames_per_sample == 3
    pixels = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        trained = training.loop.model.eval().inputs(pixels)[0].flatten(0, 1)
    torch.testing.assert_close(encoder.encode_frames(pixels.flatten(0, 1)), trained, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "core",
    [
        core if core in ("lstm", "r2plus1d") else pytest.param(core, marks=pytest.mark.long)
        for core in REPARAMETERIZATIONS
    ],
)
def test_bf16_on_a_cpu_has_the_gradients_of_fp32(begin: Begin, tmp_path: Path, core: str):
    gradients = {}
    for precision in ("fp32", "bf16"):
        loop = begin(
            tmp_path / precision, "temporal-prompts", precision=precision, reparameterization=core, prompt_gate=True,
            temporal_embedding=True,
        ).loop  # fmt: skip
        loop.model.train()
        pixels = torch.randint(0, 256, (6, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
        loop.model(pixels, torch.tensor([0, 1, 2, 2, 1, 0])).backward()
        gradients[precision] = torch.cat([p.grad.flatten() for p in loop.parameters if p.grad is not None])
    assert torch.cosine_similarity(gradients["bf16"], gradients["fp32"], dim=0) > 0.99


@pytest.mark.long
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16", "reparameterization": "lstm"}])
def test_a_training_that_was_killed_ends_as_one_that_was_not(
    begin: Begin, tmp_path: Path, changes: dict[str, Any]
):
    settings = {**SMALL, "epochs": 4, "held_out": 0.34, **changes}
    begin(tmp_path / "whole", "temporal-prompts", **settings).run()

    def kill(report: Any) -> None:
        if report.epoch.number == 2:
            raise Killed

    with pytest.raises(Killed):
        begin(tmp_path / "killed", "temporal-prompts", **settings).run(kill)
    resumed = begin(tmp_path / "killed", "temporal-prompts", **settings)
    assert len(resumed.epochs) == 2
    resumed.run()
    states = [
        load_encoder(f"local-dir:{tmp_path / name}", device="cpu", precision="fp32").network.state_dict()
        for name in ("whole", "killed")
    ]
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []
    heads = [load_head(tmp_path / name / "head.safetensors").module for name in ("whole", "killed")]
    np.testing.assert_array_equal(*(head.class_embeddings.numpy() for head in heads))


def test_a_checkpoint_of_other_prompts_is_refused(begin: Begin, tmp_path: Path):
    def kill(_: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        begin(tmp_path, "temporal-prompts", **SMALL).run(kill)
    with pytest.raises(FinetuneError, match="of another training: parts 'CGI' there, 'I' here"):
        begin(tmp_path, "temporal-prompts", parts="I", **SMALL)


def test_towers_that_cannot_take_prompts_are_named(begin: Begin, tmp_path: Path):
    with pytest.raises(
        FinetuneError, match="--tower temporal-prompts: layers last:3: the tower has 2 .local-dir"
    ):
        begin(tmp_path, "temporal-prompts", prompt_layers="last:3")
    demo = load_encoder("demo", device="cpu", precision="fp32")
    with pytest.raises(FinetuneError, match=r"--tower temporal-prompts: .* a ModifiedResNet: .* \(demo\)"):
        begin(tmp_path, "temporal-prompts", encoder=demo)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.long
def test_a_folder_has_the_prompts_alone_where_its_towers_have_a_name(begin: Begin, tmp_path: Path):
    """Of the demo's tower; of a local folder, of a trained tower and on demand it has everything."""
    settings: dict[str, Any] = {**SMALL, "epochs": 1}

    def train(name: str, model: str = "demo-vit", size: int | None = None, **changes: Any) -> Path:
        encoder = load_encoder(model, device="cpu", precision="fp32", image_size=size)
        begin(tmp_path / name, "temporal-prompts", encoder=encoder, **{**settings, **changes}).run()
        return tmp_path / name

    alone, whole = train("alone"), train("whole", self_contained=True)
    assert "temporal_prompts.safetensors" in names_in(alone)
    assert names_in(alone) ^ names_in(whole) == {
        "temporal_prompts.safetensors",
        "open_clip_model.safetensors",
    }
    encoders = [load_encoder(f"local-dir:{each}", device="cpu", precision="fp32") for each in (alone, whole)]
    assert encoders[0].identity == encoders[1].identity
    heads = [load_head(each / "head.safetensors").identity for each in (alone, whole)]
    assert heads[0].encoder_digest == heads[1].encoder_digest
    for folder in (
        train("trained", train="visual"),
        train("larger", size=128),
        train("further", f"local-dir:{alone}"),
    ):
        assert "open_clip_model.safetensors" in names_in(folder), folder.name
        assert "temporal_prompts.safetensors" not in names_in(folder), folder.name


def test_prompts_count_among_the_tokens_of_attention(begin: Begin, tmp_path: Path):
    """Which kind of attention is the faster depends on how many there are."""
    visual = begin(tmp_path, "temporal-prompts", **SMALL).loop.model.network.visual
    assert longest_sequence(visual) == (1 + 4) + (1 + 2 + 3)
