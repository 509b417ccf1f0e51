"""Trains text towers by themselves, on stills, under a visual tower that stays as it is:
`python -m vidclip.demo.lit --language zh --out DIR [--seed 0] [--stills N] [--steps N]`.

Neither tower has seen the packaged text tower: what they know of the world comes from stills and their own sentences (Zhai
et al. 2022, LiT: Zero-shot transfer with locked-image text tuning; as the towers of Taiyi were trained). So a tower in Chinese
can know what the English one does not, and so can the control beside it, which reads an English that says the same in other
words (`--language paraphrase`): it is trained in the same way on the same stills.

The stills are embedded once. Sentences about them are made anew at every step; a sentence that is true of another still too
is left out of the contrast there, and facts are read off sentences and stills alike, as in `train`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file

from ..pipeline.encoders import load_open_clip
from .captions import fact_vector
from .distill import TEACHER_WEIGHTS, VIT_CONFIG
from .languages import Language, load_language, sentence, tokenize
from .tokens import CONTEXT
from .train import (
    MODEL_CONFIG,
    READING_WEIGHT,
    WEIGHTS_FILE,
    FactReader,
    as_input,
    contrast,
    learning_rate,
    read_arguments,
    rendered,
    text_states,
    training_parser,
    write_folder,
)

STEPS = 800
STILLS = 16_000
BATCH = 256
LEARNING_RATE = 1.5e-3
STILLS_SEED = 2000
"""Stills of the run 2000: none of them was in the trainings of the packaged encoder and of demo-vit."""


def embedded_stills(count: int, workers: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return (embeddings [n, D] by demo-vit, L2-normalized, facts [n, F] uint8) of freshly drawn stills."""
    visual = load_open_clip("demo-vit", device="cpu", precision="fp32").network.visual
    embeddings, facts = [], []
    for number, batch in enumerate(rendered(-(-count // BATCH), STILLS_SEED, workers, BATCH)):
        with torch.inference_mode():
            embeddings.append(F.normalize(visual(as_input(batch.images, "cpu")), dim=-1))
        facts.append(batch.facts)
        if number % 20 == 19:
            print(f"{(number + 1) * BATCH} stills of {count}", file=sys.stderr, flush=True)
    return torch.cat(embeddings).clone(), np.concatenate(facts)


def train(
    seed: int, steps: int, language: Language, stills: torch.Tensor, facts: np.ndarray
) -> open_clip.CLIP:
    """Return a CLIP whose text tower was trained, over the tokens of `used_tokens`; its visual tower was not touched."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0x4C6954])
    tokenizer = SimpleTokenizer(context_length=CONTEXT)
    used = used_tokens(language)
    index = np.zeros(tokenizer.vocab_size, np.int64)
    index[used] = np.arange(len(used))
    text_config = {**MODEL_CONFIG["text_cfg"], "vocab_size": len(used)}
    model = open_clip.CLIP(**{**MODEL_CONFIG, "text_cfg": text_config})
    reader = FactReader(MODEL_CONFIG["embed_dim"])
    parameters = [p for name, p in model.named_parameters() if not name.startswith("visual.")] + [
        *reader.parameters()
    ]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),
    )
    missing = 1.0 - torch.from_numpy(facts).float()  # [n, F]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate(step, steps)
        drawn = rng.choice(len(stills), BATCH, replace=False)
        told = [sentence(facts[i], language, rng) for i in drawn]
        said = torch.from_numpy(np.stack([fact_vector(asserted) for _, asserted in told])).float()
        tokens = tokenize([text for text, _ in told], tokenizer)
        ends = torch.from_numpy(tokens.argmax(axis=1))
        found = F.normalize(embed_sentences(model, torch.from_numpy(index[tokens]), ends), dim=-1)
        seen = stills[torch.from_numpy(drawn)]
        true = said @ missing[torch.from_numpy(drawn)].T == 0
        loss = contrast(seen, found, true, model.logit_scale.exp())
        own = torch.from_numpy(facts[drawn]).float()
        loss = loss + READING_WEIGHT * (reader.loss(seen, own) + reader.loss(found, said))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(100)))
        if step % 100 == 99 or step + 1 == steps:
            print(
                f"{language.name} {seed}: step {step + 1}/{steps}  loss {loss.detach().item():.3f}",
                file=sys.stderr,
                flush=True,
            )
    return model.eval()


def embed_sentences(model: open_clip.CLIP, tokens: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Return sentence embeddings [n, D] of tokens [n, L] that end at `ends`, in three groups of like length: short ones pay
    for no padding."""
    order = ends.argsort()
    parts = []
    for group in order.tensor_split(3):
        states = text_states(model, tokens[group, : int(ends[group].max()) + 1])
        parts.append(states[torch.arange(len(group)), ends[group]])
    return torch.cat(parts)[order.argsort()]


def used_tokens(language: Language) -> list[int]:
    """Return the tokens of all sentences of a language: phrases stand in a prompt, bare, or in a list."""
    tokenizer = SimpleTokenizer(context_length=CONTEXT)
    texts = [p.replace("{}", phrase) for phrase in language.phrases.values() for p in language.prompts]
    # CLIP joins letters across a border only where no comma stands between them.
    texts += [f"{language.comma}{text}{language.comma}" for text in texts]
    return sorted({token for text in texts for token in tokenizer(text)[0].tolist()})


def folder_state(model: open_clip.CLIP, language: Language) -> dict[str, torch.Tensor]:
    """Return the weights of a model folder in float16: demo-vit's visual tower and this text tower, without the rows of
    tokens that the language does not have."""
    state = {n: v.detach() for n, v in model.state_dict().items() if not n.startswith("visual.")}
    rows = state["token_embedding.weight"]
    table = torch.zeros(MODEL_CONFIG["text_cfg"]["vocab_size"], rows.shape[1])
    table[used_tokens(language)] = rows
    state["token_embedding.weight"] = table
    state |= load_file(Path(TEACHER_WEIGHTS).parents[1] / "vit" / "visual.safetensors")
    return {n: v.half().contiguous() if v.is_floating_point() else v for n, v in state.items()}


def main() -> None:
    """Read the command line, train, save."""
    parser = training_parser("python -m vidclip.demo.lit", "Train a text tower on stills.", "demo-lit", STEPS)
    parser.add_argument(
        "--language", choices=("zh", "paraphrase"), default="zh", help="(default: %(default)s)"
    )
    parser.add_argument("--stills", type=int, default=STILLS, help="that are drawn (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings, in folders OUT-0, OUT-1, ... (default: one, in OUT)"
    )
    arguments = read_arguments(parser)
    language = load_language(arguments.language)
    stills, facts = embedded_stills(arguments.stills, arguments.workers)
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        folder = (
            arguments.out if arguments.seeds == 1 else arguments.out.with_name(f"{arguments.out.name}-{seed}")
        )
        model = train(seed, arguments.steps, language, stills, facts)
        write_folder(folder_state(model, language), VIT_CONFIG, folder, WEIGHTS_FILE)
        print(f"wrote {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
