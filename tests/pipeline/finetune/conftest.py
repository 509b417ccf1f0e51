"""Small videos of three classes, and trainings of a tiny encoder on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import save_video
from vidclip.pipeline import ExtractSettings, load_encoder, read_videos
from vidclip.pipeline.finetune import Finetuning, Recipe, find_recipe, training_videos

CLASSES = ("juggling", "rowing", "yoga")


@pytest.fixture(scope="session")
def labeled_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of each of three classes."""
    folder = tmp_path_factory.mktemp("labeled")
    for c, name in enumerate(CLASSES):
        for number in range(6):
            save_video(folder / name / f"{number}.mp4", frames=8, seed=10 * c + number)
    return folder


def small_recipe(name: str = "text4vis", **changes: Any) -> Recipe:
    """A recipe for eighteen videos."""
    small = {"frames": 3, "epochs": 2, "batch_size": 6, "held_out": 0.34}
    return find_recipe(name, **{**small, "learning_rate": 1e-3, "backbone_rate": 1e-4, **changes})


@pytest.fixture
def begin(tiny_model: str, labeled_videos: Path) -> Callable[..., Finetuning]:
    """Builds a training of the tiny encoder; keywords change the small recipe."""

    def build(
        output: Path,
        name: str = "text4vis",
        *,
        source: Path = labeled_videos,
        encoder: Any = None,
        world: Any = None,
        lexicon: Any = None,
        self_contained: bool = False,
        **changes: Any,
    ) -> Finetuning:
        recipe = small_recipe(name, **changes)
        videos = training_videos(read_videos(source), held_out=recipe.held_out, seed=recipe.seed)
        if lexicon:  # other names for the same classes
            videos = replace(videos, lexicon=lexicon)
        encoder = encoder or load_encoder(tiny_model, device="cpu", precision="fp32")
        return Finetuning(
            videos,
            encoder,
            recipe,
            output,
            reading=ExtractSettings(workers=1),
            world=world,
            self_contained=self_contained,
        )

    return build
