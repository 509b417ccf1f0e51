"""What a recipe changes in an encoder before it is trained, and which recipes an encoder cannot be trained by."""

from __future__ import annotations

from open_clip.modified_resnet import ModifiedResNet

from ..encoders import IMAGENET_MEAN, IMAGENET_STD, OpenClipEncoder
from .errors import FinetuneError
from .recipe import Recipe


def prepare_encoder(encoder: OpenClipEncoder, recipe: Recipe) -> None:
    """Change the tower and the normalization of an encoder in place. Raises FinetuneError for what does not fit."""
    try:
        if recipe.tower_config is not None:
            encoder.change_tower(recipe.tower_config, recipe.seed)
    except ValueError as error:
        raise FinetuneError(f"--tower {recipe.tower}: {error} ({encoder.name}).") from error
    if recipe.normalization == "imagenet":
        encoder.change_normalization(IMAGENET_MEAN, IMAGENET_STD)
    if recipe.video_prompts == "on" and encoder.patch_shape is None:
        raise FinetuneError(
            f"--video-prompts on: the tower of {encoder.name} has no cross-frame attention inside, whose patch tokens the "
            "prompts read. Use --tower cross-frame, or --video-prompts off."
        )
    if recipe.checkpointing and isinstance(encoder.network.visual, ModifiedResNet):
        raise FinetuneError(
            f"--checkpointing: open_clip keeps all activations of a ResNet ({encoder.name}). Use --accumulate."
        )
    if encoder.frames_per_sample not in (1, recipe.frames):
        raise FinetuneError(
            f"the tower of {encoder.name} sees {encoder.frames_per_sample} frames at once, and clips have "
            f"{recipe.frames}. Use --frames {encoder.frames_per_sample}."
        )
