"""Recipes: the papers' values, parameter groups, and the learning rate over time."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from torch import nn

from vidclip.pipeline.choices import FINETUNE_RECIPES
from vidclip.pipeline.encoders import PromptConfig
from vidclip.pipeline.finetune import FEW_SHOT, RECIPES, few_shot_batch, find_recipe, parameter_groups
from vidclip.pipeline.heads import FitError, lr_factor


def test_recipes_have_the_papers_values():
    assert tuple(RECIPES) == FINETUNE_RECIPES
    for recipe in (RECIPES["text4vis"], RECIPES["bike"]):
        assert (recipe.batch_size, recipe.epochs, recipe.warm_up, recipe.frames) == (256, 30, 5, 8)
        assert (recipe.learning_rate, recipe.backbone_rate, recipe.weight_decay) == (5e-5, 5e-6, 0.2)
        assert (recipe.flip, recipe.gray, recipe.temporal, recipe.classifier) == (
            0.5,
            0.2,
            "transformer",
            "text",
        )
    text4vis, bike = RECIPES["text4vis"], RECIPES["bike"]
    assert (text4vis.betas, text4vis.rand_augment, text4vis.pool) == ((0.9, 0.98), (2, 9), "mean")
    assert (bike.betas, bike.rand_augment, bike.pool) == ((0.9, 0.999), (0, 0), "vcs")
    assert (text4vis.loss, text4vis.temperature, bike.loss, bike.temperature) == (
        "cross-entropy",
        None,
        "released",
        0.01,
    )


def test_x_clip_has_the_papers_values():
    recipe = RECIPES["x-clip"]
    assert (recipe.batch_size, recipe.epochs, recipe.warm_up, recipe.frames) == (256, 30, 5, 8)
    assert (recipe.learning_rate, recipe.backbone_rate, recipe.min_rate) == (8e-5, 8e-6, 0.01)
    assert (recipe.betas, recipe.weight_decay, recipe.decay) == ((0.9, 0.98), 0.001, "matrices")
    assert (recipe.label_smoothing, recipe.mixup, recipe.cutmix) == (0.1, 0.8, 1.0)
    assert (recipe.jitter, recipe.jitter_probability, recipe.gray) == ((0.4, 0.4, 0.2, 0.1), 0.8, 0.2)
    assert (recipe.tower, recipe.temporal, recipe.video_prompts) == ("cross-frame", "mit", "on")
    few = find_recipe("x-clip", **FEW_SHOT["x-clip"])
    assert (few.frames, few.learning_rate, few.backbone_rate, few.temporal) == (32, 2e-5, 2e-6, "mit")


def test_temporal_prompts_have_the_papers_values():
    """Table 2 and 4.1.2, but for the rate: 5e-4 is that of Something-Something."""
    recipe = RECIPES["temporal-prompts"]
    assert (recipe.batch_size, recipe.epochs, recipe.warm_up, recipe.frames) == (32, 30, 5, 8)
    assert (recipe.betas, recipe.weight_decay, recipe.decay) == ((0.9, 0.999), 0.01, "matrices")
    assert (recipe.learning_rate, recipe.flip, recipe.gray, recipe.crop) == (5e-4, 0.5, 0.2, True)
    assert (recipe.pool, recipe.temporal, recipe.loss, recipe.temperature) == ("vcs", "mean", "paper", 0.01)
    assert (recipe.train, recipe.tower, recipe.position) == ("head", "temporal-prompts", "middle")
    assert recipe.tower_config is not None
    prompts = recipe.tower_config.prompts
    assert prompts == PromptConfig()
    assert (prompts.parts, prompts.global_prompts, prompts.layers, prompts.init) == ("CGI", 8, "all", 1.0)
    assert (prompts.reparameterization, prompts.residual, prompts.gate) == ("r2plus1d", True, False)
    few = find_recipe("temporal-prompts", **FEW_SHOT["temporal-prompts"])
    assert (few.epochs, few.held_out, few.batch_size) == (30, 0.0, 64)
    assert [few_shot_batch(few, n).batch_size for n in (500, 64, 20, 1)] == [64, 64, 20, 1]
    assert few_shot_batch(find_recipe("temporal-prompts", accumulate=4), 22).batch_size == 20


def test_each_setting_of_prompts_is_a_value_of_a_recipe():
    changed = {
        "parts": "GI", "global_prompts": 3, "layers": "last:2", "init": "vita", "gate": True,
        "temporal_embedding": True, "global_per_frame": True, "reparameterization": "tada", "residual": False,
        "shared": True,
    }  # fmt: skip
    assert changed.keys() == {field.name for field in fields(PromptConfig)}
    names = {
        "layers": "prompt_layers", "init": "prompt_init", "gate": "prompt_gate", "residual": "prompt_residual",
        "shared": "shared_reparameterization",
    }  # fmt: skip
    values = {names.get(name, name): value for name, value in changed.items()}
    recipe = find_recipe("temporal-prompts", **values)
    assert recipe.tower_config is not None
    assert recipe.tower_config.prompts == PromptConfig(**changed)
    assert values.items() <= recipe.to_dict().items()
    assert not values.keys() & RECIPES["bike"].to_dict().keys(), (
        "checkpoints of other recipes stay as they were"
    )


def test_every_value_can_be_changed():
    changed = find_recipe("bike", **FEW_SHOT["bike"], batch_size=64, decay="matrices")
    assert (changed.epochs, changed.temporal, changed.batch_size, changed.decay) == (
        10,
        "mean",
        64,
        "matrices",
    )
    assert changed.pool == "vcs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "all"}, "train must be one of visual, visual.text, text, head"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 10, "accumulate": 3}, "batch_size 10 cannot be shared among accumulate 3"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0"),
        ({"betas": (0.9, 1.0)}, "betas must be between 0 and 1"),
        ({"jitter": (0.1, 0.1, 0.1, 0.9)}, "jitter must be four strengths"),
        ({"rand_augment": (2, 31)}, "rand_augment must be"),
        ({"label_smoothing": 1.0}, "label_smoothing must be between 0 and 1"),
        ({"jitter_probability": 1.1}, "jitter_probability must be between 0 and 1"),
        ({"mixup": 0.8, "loss": "released"}, "go with cross-entropy alone: a contrastive loss .released."),
        ({"video_prompts": "on"}, "video_prompts on goes with temporal mit, got transformer"),
        ({"crop_form": "square"}, "form must be one of area, multi-scale"),
        ({"temporal_start": "zero"}, "temporal_start must be one of quiet, released"),
        ({"temporal_start": "released", "temporal": "conv"}, "is for transformer and mit, not for conv"),
        ({"cosine": "half"}, "cosine must be one of shifted, whole"),
        ({"tower": "temporal-prompts", "prompt_init": 0}, "init must be above 0"),
        ({"keep_pixels": -1}, "keep_pixels must be at least 0"),
        ({"keep_pixels": 1, "mode": "dense"}, "keep_pixels .* goes with mode uniform"),
        ({"flip": 1.5}, "flip must be a probability"),
        ({"train": "visual+text", "classifier": "lda"}, "visual.text goes with the text classifier"),
        ({"pool": "max"}, "pool must be one of"),
        ({"prompts": ("a video",)}, "a prompt needs one {}"),
        ({"prompt_draw": True}, "prompt_draw needs several prompts"),
        (
            {"prompt_draw": True, "prompts": ("{}", "a {}"), "pool": "vcs"},
            "prompt_draw goes without pool vcs",
        ),
        ({"prompt_draw": True, "prompts": ("{}", "a {}"), "prompt_context": 2}, "prompt_draw goes without"),
        ({"prompt_context": 4, "train": "visual+text"}, "visual.text trains the tower"),
        ({"prompt_context": 4, "classifier": "lda"}, "needs the text classifier"),
        ({"text_encoder": "x", "classifier": "lda"}, "text_encoder goes with the text classifier"),
        ({"text_encoder": "x", "train": "visual+text"}, "takes the place of the text tower"),
        ({"text_encoder": "x", "pool": "vcs"}, "text_encoder goes without pool vcs"),
        ({"text_encoder": "x", "prompt_context": 4}, "text_encoder goes without pool vcs and prompt_context"),
        ({"text_encoder": "x", "prompts": ("{}", "a {}")}, "text_encoder reads one prompt"),
    ],
)
def test_rejects_values_that_cannot_be(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        find_recipe("text4vis", **changes)


def test_rejects_unknown_recipes():
    with pytest.raises(ValueError, match="no recipe 'x-clap'; there are text4vis, bike"):
        find_recipe("x-clap")


@pytest.mark.parametrize(("epochs", "warm_up"), [(30, 5), (10, 5), (6, 5), (5, 5 / 6), (2, 1 / 3)])
def test_warm_up_ends_before_the_training(epochs: int, warm_up: float):
    assert find_recipe("bike", epochs=epochs).warm_up == pytest.approx(warm_up)


def test_rate_follows_the_formula():
    """lr e/w for e < w, then lr (1 + cos(pi (e - w) / (E - w))) / 2, e the epoch as a real number (step s of S: the
    first has the rate of e = 1/S)."""
    steps, warm_up, epochs = 12, 5, 30

    def rate(step: float) -> float:
        e = (step + 1) / steps
        return (
            e / warm_up
            if e <= warm_up
            else 0.5 * (1 + math.cos(math.pi * (step / steps - warm_up) / (epochs - warm_up)))
        )

    for e in (0, warm_up / 2, warm_up, (warm_up + epochs) / 2, epochs - 1 / steps):
        assert lr_factor(round(e * steps), warm_up * steps, epochs * steps) == pytest.approx(
            rate(round(e * steps))
        )
    assert lr_factor(0, warm_up * steps, epochs * steps) == pytest.approx(1 / 60)
    assert lr_factor(warm_up * steps, warm_up * steps, epochs * steps) == 1
    assert lr_factor(210, 60, 360) == pytest.approx(0.5)
    assert lr_factor(360, 60, 360) == pytest.approx(0)


def test_a_whole_cosine_is_that_of_timm():
    from timm.scheduler import CosineLRScheduler

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    theirs = CosineLRScheduler(optimizer, t_initial=60, lr_min=0.02, warmup_t=10, t_in_epochs=False)
    for step in range(10, 60):
        theirs.step_update(step)
        rate = 2.0 * lr_factor(step, 10, 60, minimum=0.01, cosine="whole")
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert lr_factor(10, 10, 60, minimum=0.01) == 1
    assert lr_factor(60, 10, 60, minimum=0.01) == pytest.approx(0.01)


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(4, 3)
        self.positional_embedding = nn.Parameter(nn.init.zeros_(nn.Linear(4, 5).weight))
        self.text = nn.Linear(4, 2).requires_grad_(False)


def test_every_trained_parameter_is_in_one_group():
    towers, head = Towers(), nn.Linear(3, 2)
    for decay in ("all", "matrices"):
        recipe = find_recipe("bike", decay=decay)
        groups = parameter_groups(
            {"encoder": towers.named_parameters(), "head": head.named_parameters()}, recipe
        )
        found = [id(parameter) for group in groups for parameter in group["params"]]
        trained = [p for module in (towers, head) for p in module.parameters() if p.requires_grad]
        assert sorted(found) == sorted(map(id, trained))
        own = {id(p): group for group in groups for p in group["params"]}
        assert (
            own[id(towers.proj.weight)]["lr"]
            == pytest.approx(own[id(head.weight)]["lr"] / 10)
            == pytest.approx(5e-6)
        )
        for parameter in (towers.proj.bias, towers.positional_embedding, head.bias):
            assert own[id(parameter)]["weight_decay"] == (0.2 if decay == "all" else 0)
        assert own[id(towers.proj.weight)]["weight_decay"] == own[id(head.weight)]["weight_decay"] == 0.2


@pytest.mark.parametrize("start", ["quiet", "released"])
@pytest.mark.parametrize("kind", ["transformer", "mit"])
def test_the_temporal_module_begins_as_the_recipe_says(begin, tmp_path, start: str, kind: str):
    temporal = begin(tmp_path, epochs=12, temporal=kind, temporal_start=start).loop.model.head.temporal
    out = temporal.blocks[0].mlp_out.weight
    assert out.std().item() == pytest.approx(0.02 if start == "released" else 0, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, {"encoder", "head"}),
        ({"tower": "token-t1d", "temporal": "mean"}, {"encoder", "tower"}),
        ({"tower": "temporal-prompts", "train": "head", "temporal": "mean"}, {"tower"}),
        ({"train": "visual+text", "classifier": "text", "decay": "matrices"}, {"encoder", "head"}),
        ({"train": "head", "prompt_context": 2}, {"head", "prompt context"}),
        ({"classifier": "linear", "temporal": "mean"}, {"encoder", "head"}),
    ],
)
def test_every_trained_parameter_of_a_model_is_in_one_group(begin, tmp_path, changes: dict, names: set):
    """What is frozen is in none."""
    loop = begin(tmp_path, epochs=12, **changes).loop
    found = [id(parameter) for group in loop.groups for parameter in group["params"]]
    trained = {id(p): name for name, p in loop.model.named_parameters() if p.requires_grad}
    assert sorted(found) == sorted(trained)
    assert {group["name"].removesuffix(", without decay") for group in loop.groups} == names
    text = ("transformer.", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    frozen = {n for n, p in loop.model.named_parameters() if not p.requires_grad}
    train = loop.recipe.train
    assert any(n.startswith(tuple(f"network.{t}" for t in text)) for n in frozen) == (train != "visual+text")
    assert any(n.startswith("network.visual.") for n in frozen) == (train == "head")


def test_rejects_a_training_of_nothing():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(FitError, match="nothing would be trained"):
        parameter_groups({"encoder": frozen.named_parameters()}, RECIPES["bike"])
