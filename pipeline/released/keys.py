"""Names of weights: those of a release, and those of the modules that take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from .read import ReleasedError

_BLOCK_NAMES = {
    "blocks.": "resblocks.",
    "attention_in.": "attn.in_proj_",
    "attention_out.": "attn.out_proj.",
    "attention_norm.": "ln_1.",
    "mlp_norm.": "ln_2.",
    "mlp_in.": "mlp.c_fc.",
    "mlp_out.": "mlp.c_proj.",
}


def official_block(name: str) -> str:
    """Return the name that OpenAI's transformers have for a parameter of a `TemporalTransformer`:
    `blocks.0.attention_in.weight` -> `resblocks.0.attn.in_proj_weight`."""
    for own, official in _BLOCK_NAMES.items():
        name = name.replace(own, official)
    return name


def take(
    found: Mapping[str, torch.Tensor],
    module: nn.Module,
    official: Callable[[str], str] = str,
    *,
    where: str,
) -> dict[str, torch.Tensor]:
    """Return the state of `module` from tensors that have the names of a release.

    official    own name -> name in the release

    Raises ReleasedError with the first name that is missing, unknown, or of another shape.
    """
    expected = {official(name): (name, tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [name for name in expected if name not in found]
    if missing:
        raise ReleasedError(f"{where}: {missing[0]!r} is missing{_more(missing)}.")
    unknown = [name for name in found if name not in expected]
    if unknown:
        raise ReleasedError(f"{where}: {unknown[0]!r} is unknown{_more(unknown)}.")
    for name, (_, shape) in expected.items():
        if found[name].shape != shape:
            raise ReleasedError(
                f"{where}: {name!r} has the shape {list(found[name].shape)}, and the rest of the file wants {list(shape)}."
            )
    return {own: found[name].contiguous() for name, (own, _) in expected.items()}


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""
