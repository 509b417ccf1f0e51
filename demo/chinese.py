"""Trains Chinese for the demo's encoder: `python -m vidclip.demo.chinese [--out FILE] [--seed 0] [--steps N]`.

CLIP's byte pairs can write Chinese, and the rows of these tokens in the packaged table of token embeddings are zero. This
trains those rows alone: a Chinese phrase is to have the sentence embedding of its English one (Reimers and Gurevych 2020,
Making monolingual sentence embeddings multilingual). The tower, its projection and all other rows stay as they are, and so
do all English embeddings, to the bit. What comes out is a small second file, `--second-text demo-zh`.

A tower that is taught by the English one repeats its errors; see `lit` for one that is trained on stills.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

from .actions import ACTIONS, ORDER_PAIRS
from .captions import PHRASES, PROMPTS
from .distill import load_teacher
from .languages import Language, load_language, tokenize
from .tokens import CONTEXT
from .train import text_states

STEPS = 600
BATCH = 64
LEARNING_RATE = 5e-3
HELD_OUT = tuple(action.name for action in ACTIONS[::5])
"""Names of actions that are not trained on: 15, to see what becomes of phrases that the rows were not made for."""
LENGTH_WEIGHT = 1.0


def phrase_pairs(language: Language, *, held_out: bool) -> list[tuple[str, str]]:
    """Return (English, Chinese) phrases of the world: those that are trained on, or those that are not."""
    actions = [*(action.name for action in ACTIONS), *(a.name for pair in ORDER_PAIRS for a in pair)]
    names = [name for name in (*PHRASES, *actions) if (name in HELD_OUT) == held_out]
    return [(name, language.phrases[name]) for name in names]


def train(seed: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (tokens [n] int64, their rows [n, E] float32). Progress goes to standard error."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0x7A68])
    tokenizer, language = SimpleTokenizer(context_length=CONTEXT), load_language("zh")
    teacher: Any = load_teacher("cpu")
    pairs = phrase_pairs(language, held_out=False)
    every = [
        prompt.replace("{}", phrase) for phrase in language.phrases.values() for prompt in language.prompts
    ]
    used = sorted({token for text in [*every, language.comma] for token in tokenizer.encode(text)})
    tokens, table = torch.tensor(used), teacher.token_embedding.weight
    if bool(table[tokens].any()):
        raise RuntimeError("a Chinese token has a row already: English phrases would change")
    known = table[table.any(dim=1)]
    rows = torch.nn.Parameter(torch.randn(len(used), table.shape[1]) * known.std())
    optimizer = torch.optim.Adam([rows], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        drawn = [pairs[i] for i in rng.choice(len(pairs), BATCH, replace=False)]
        forms = rng.integers(2, size=BATCH)  # in a prompt, or bare
        chinese = [
            language.prompts[form].replace("{}", zh) for form, (_, zh) in zip(forms, drawn, strict=True)
        ]
        english = [PROMPTS[2 * form].replace("{}", en) for form, (en, _) in zip(forms, drawn, strict=True)]
        with torch.no_grad():
            wanted = embed(teacher, tokenize(english, tokenizer))
        found = embed(teacher, tokenize(chinese, tokenizer), (tokens, rows))
        cosine = F.cosine_similarity(found, wanted)
        lengths = found.norm(dim=-1).log() - wanted.norm(dim=-1).log()
        loss = (1 - cosine).mean() + LENGTH_WEIGHT * lengths.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49 or step + 1 == steps:
            print(
                f"step {step + 1}/{steps}  cosine {cosine.detach().mean().item():.4f}",
                file=sys.stderr,
                flush=True,
            )
    return tokens, rows.detach()


def embed(
    model: Any, tokens: np.ndarray, extra: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """Return the sentence embeddings [n, D], not normalized, of tokens [n, L].

    extra    (tokens [m], rows [m, E]) that stand where the table has zeros
    """
    length = int((tokens != 0).sum(axis=1).max())
    cut = torch.from_numpy(tokens[:, :length])
    hook = None
    if extra is not None:
        place = torch.full((model.token_embedding.num_embeddings,), -1)
        place[extra[0]] = torch.arange(len(extra[0]))
        at = place[cut]

        def put(_module: torch.nn.Module, _inputs: object, embedded: torch.Tensor) -> torch.Tensor:
            return torch.where((at >= 0)[..., None], extra[1][at.clamp_min(0)], embedded)

        hook = model.token_embedding.register_forward_hook(put)
    try:
        states = text_states(model, cut)
    finally:
        if hook is not None:
            hook.remove()
    return states[torch.arange(len(cut)), cut.argmax(dim=1)]


def report(tokens: torch.Tensor, rows: torch.Tensor) -> str:
    """Say how near Chinese phrases are to their English ones, and whether a name's nearest English name is its own."""
    tokenizer, language, teacher = (
        SimpleTokenizer(context_length=CONTEXT),
        load_language("zh"),
        load_teacher("cpu"),
    )
    names = [action.name for action in ACTIONS]
    with torch.no_grad():
        english = embed(teacher, tokenize([PROMPTS[0].replace("{}", name) for name in names], tokenizer))
        texts = [language.prompts[0].replace("{}", language.phrases[name]) for name in names]
        chinese = embed(teacher, tokenize(texts, tokenizer), (tokens, rows))
    cosines = F.normalize(chinese, dim=-1) @ F.normalize(english, dim=-1).T
    own, nearest = cosines.diagonal(), cosines.argmax(dim=1) == torch.arange(len(names))
    held = torch.tensor([name in HELD_OUT for name in names])
    return "\n".join(
        f"{what} names: cosine {float(own[part].mean()):.3f}, lowest {float(own[part].min()):.3f}; "
        f"{int(nearest[part].sum())} of {int(part.sum())} nearest to their own English name"
        for what, part in (("trained", ~held), ("held-out", held))
    )


def main() -> None:
    """Read the command line, train, save."""
    parser = argparse.ArgumentParser(
        prog="python -m vidclip.demo.chinese", description="Train Chinese for the demo."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("chinese.safetensors"), help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="(default: %(default)s)")
    arguments = parser.parse_args()
    tokens, rows = train(arguments.seed, arguments.steps)
    rows = rows.half()
    save_file({"tokens": tokens, "rows": rows}, arguments.out, metadata={"format": "pt"})
    arguments.out.chmod(0o644)
    print(report(tokens, rows.float()))


if __name__ == "__main__":
    main()
