"""Small models of transformers' X-CLIP with random weights, and the same weights under the names of the official code."""

from __future__ import annotations

from typing import Any

import torch

D = 64


def tiny_xclip(frames: int, heads: int = 2, *, size: int = 32) -> Any:
    """A model of D = 64 whose attentions have `heads` heads; twice as many in the visual tower, their square in the
    prompts. With one, a head has 64 dimensions wherever there are as many."""
    from transformers import XCLIPConfig, XCLIPModel

    text = {
        "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": heads,
        "max_position_embeddings": 20,
    }  # fmt: skip
    vision = {
        "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2 * heads,
        "mit_hidden_size": D, "mit_intermediate_size": 4 * D, "mit_num_attention_heads": heads,
        "image_size": size, "patch_size": 16, "num_frames": frames,
    }  # fmt: skip
    config = XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=D, prompt_num_attention_heads=heads**2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(heads)
        model = XCLIPModel(config).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight") or "norm1.weight" in name or "norm3.weight" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
            elif name == "logit_scale":
                parameter.fill_(3.0)
            else:
                fan = parameter.shape[-1] if parameter.ndim > 1 else 100
                parameter.copy_(torch.randn_like(parameter) / fan**0.5)
    return model


def official_state(model: Any) -> dict[str, torch.Tensor]:
    """The weights of such a model as the official code names and shapes them."""
    parts = {name: module.state_dict() for name, module in model.named_children()}
    vision, text = parts["vision_model"], parts["text_model"]
    state = {
        "visual.class_embedding": vision["embeddings.class_embedding"],
        "visual.conv1.weight": vision["embeddings.patch_embedding.weight"],
        "visual.positional_embedding": vision["embeddings.position_embedding.weight"],
        "visual.proj": model.visual_projection.weight.T,
        "token_embedding.weight": text["embeddings.token_embedding.weight"],
        "positional_embedding": text["embeddings.position_embedding.weight"],
        "text_projection": model.text_projection.weight.T,
        "logit_scale": model.logit_scale,
        "prompts_visual_proj": model.prompts_visual_projection,
        "prompts_generator.alpha": model.prompts_generator.alpha,
        "mit.positional_embedding": model.mit.position_embedding,
    }
    norms = {
        "visual.ln_pre": model.vision_model.pre_layernorm,
        "visual.ln_post": model.vision_model.post_layernorm,
        "ln_final": model.text_model.final_layer_norm,
        "prompts_visual_ln": model.prompts_visual_layernorm,
        "prompts_generator.norm": model.prompts_generator.layernorm,
    }
    for name, norm in norms.items():
        state |= {f"{name}.{key}": value for key, value in norm.state_dict().items()}
    for stem, encoder in (
        ("visual.transformer", model.vision_model.encoder),
        ("transformer", model.text_model.encoder),
        ("mit", model.mit.encoder),
    ):
        for i, layer in enumerate(encoder.layers):
            state |= _block(f"{stem}.resblocks.{i}", layer)
    for name, value in model.prompts_generator.decoder.state_dict().items():
        state[f"prompts_generator.decoder.{name}"] = value
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _block(stem: str, layer: Any) -> dict[str, torch.Tensor]:
    state = {}
    for ours, theirs in (("ln_1", layer.layer_norm1), ("ln_2", layer.layer_norm2)):
        state |= {f"{stem}.{ours}.{key}": value for key, value in theirs.state_dict().items()}
    for ours, theirs in (("c_fc", layer.mlp.fc1), ("c_proj", layer.mlp.fc2)):
        state |= {f"{stem}.mlp.{ours}.{key}": value for key, value in theirs.state_dict().items()}
    state |= _attention(f"{stem}.attn", layer.self_attn)
    if hasattr(layer, "message_fc"):
        for name in ("message_fc", "message_ln"):
            own = getattr(layer, name).state_dict()
            state |= {f"{stem}.{name}.{key}": value for key, value in own.items()}
        state |= _attention(f"{stem}.message_attn", layer.message_attn)
    return state


def _attention(stem: str, attention: Any) -> dict[str, torch.Tensor]:
    three = [attention.q_proj, attention.k_proj, attention.v_proj]
    return {
        f"{stem}.in_proj_weight": torch.cat([linear.weight for linear in three]),
        f"{stem}.in_proj_bias": torch.cat([linear.bias for linear in three]),
        f"{stem}.out_proj.weight": attention.out_proj.weight,
        f"{stem}.out_proj.bias": attention.out_proj.bias,
    }


def open_clip_config(model: Any) -> dict[str, Any]:
    """The same architecture as open_clip describes it."""
    text, vision = model.config.text_config, model.config.vision_config
    return {
        "embed_dim": model.config.projection_dim,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "patch_size": vision.patch_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
        },
    }
