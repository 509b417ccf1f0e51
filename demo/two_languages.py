"""What a second language brings in the demo's world, beside its controls: `python -m vidclip.demo.two_languages [FOLDER]`.

Text towers that are not there yet are trained first (`lit`), three in Chinese and three in an English that says the same in
other words; then all of it is scored from the features of demo-vit. The tables are printed, and written into a document with
--output.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..lexicons import load_lexicon
from ..pipeline.evaluation import (
    FEW_SHOT_SETTINGS,
    Languages,
    LanguageSettings,
    ScoringSettings,
    build_scorers,
    evaluate,
    find_languages,
    select_videos,
    train_head,
)
from ..pipeline.heads import ClassTexts, HeadConfig, HeadScorer, SecondLanguage
from ..pipeline.scoring import ConceptSpottingConfig, Scorer
from .captions import PROMPTS
from .distill import VIT_CONFIG
from .finetuning.hits import difference, figure
from .languages import load_language
from .lit import STEPS, STILLS, embedded_stills, folder_state, train
from .measure import KINDS, PROMPT, TEMPERATURE, split_of
from .report import Measurements, fill, table
from .train import WEIGHTS_FILE, write_folder

SEEDS = 3
SHOTS = 4
Hits = dict[str, dict[str, list[np.ndarray]]]
"""By row and kind of video: [n] of 0 and 100 for each seed."""


def towers(folder: Path, name: str, steps: int, stills: int, workers: int) -> list[Path]:
    """Return the model folders of the trained towers of a language; train those that are not there."""
    places = [folder / f"lit-{name}-{seed}" for seed in range(SEEDS)]
    missing = [seed for seed in range(SEEDS) if not (places[seed] / "open_clip_config.json").exists()]
    if missing:
        language = load_language(name)
        embeddings, facts = embedded_stills(stills, workers)
        for seed in missing:
            model = train(seed, steps, language, embeddings, facts)
            write_folder(folder_state(model, language), VIT_CONFIG, places[seed], WEIGHTS_FILE)
    return places


def settings_of(name: str, tower: str, **changes: object) -> LanguageSettings:
    """Return the settings of a language by a tower, without controls unless `changes` name them."""
    plain = LanguageSettings(
        tower, load_lexicon(f"demo-classes-{name}"), prompts=load_language(name).prompts[:1], controls=()
    )
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType]


def zero_shot(world: Measurements, chinese: Sequence[Path], paraphrase: Sequence[Path], split: str) -> str:
    """Return a table of the test videos, nothing trained on them: mean pooling and concept spotting."""
    scoring = ScoringSettings(
        (PROMPT,), ("mean", "vcs"), spotting=ConceptSpottingConfig(temperature=TEMPERATURE)
    )
    hits: Hits = {}

    def score(settings: LanguageSettings, *names: str) -> None:
        """Add the rows of a language; `names` are those of its own and of its controls in this table."""
        languages = find_languages(world.cache, world.classes, settings, prompts=(PROMPT,), load=world.load)
        scorers = build_scorers(world.cache, world.classes, scoring, languages=languages, load=world.load)
        called = dict(zip((each.name for each in languages.seconds), names, strict=True))
        for kind, of_rows in _hits(world, scorers, split).items():
            for row, values in of_rows.items():
                _add(hits, _renamed(row, called), kind, values)

    score(settings_of("zh", "demo-zh", controls=("prompts",), control_prompts=PROMPTS), "taught", "3 prompts")
    for tower in chinese:
        score(settings_of("zh", f"local-dir:{tower}", controls=("permuted",)), "Chinese", "permuted")
    for tower in paraphrase:
        score(settings_of("paraphrase", f"local-dir:{tower}"), "paraphrase")
    return _table(hits, ("mean", "vcs"))


def few_shot(world: Measurements, chinese: Sequence[Path], paraphrase: Sequence[Path], split: str) -> str:
    """Return a table of heads that were trained on SHOTS videos of every class under the sum of both losses."""
    hits: Hits = {}
    train_on = select_videos(world.cache, world.classes, "train")
    texts = world.texts()
    for seed, towers in enumerate(zip(chinese, paraphrase, strict=True)):
        rows: dict[str, SecondLanguage | None] = {"text": None}
        for name, tower, row in (("zh", towers[0], "Chinese"), ("paraphrase", towers[1], "paraphrase")):
            settings = settings_of(
                name, f"local-dir:{tower}", controls=("permuted", "twice") if name == "zh" else ()
            )
            found = _languages(world, settings)
            rows |= dict(zip((row, "permuted", "English twice"), found.seconds, strict=False))
        for row, second in rows.items():
            for pool in ("mean", "vcs"):
                config = HeadConfig(pool=pool, second=row if second else "")
                classes = ClassTexts(world.classes.labels, texts, seconds={row: second} if second else {})
                fit = replace(FEW_SHOT_SETTINGS, seed=seed)
                head = train_head(world.cache, train_on, classes, config, fit, shots=SHOTS).head
                scorer = HeadScorer(head, name=pool if second is None else f"{pool} + {row} (0.5)")
                for kind, of_rows in _hits(world, [scorer], split).items():
                    _add(hits, scorer.name, kind, of_rows[scorer.name])
    return _table(hits, ("mean", "vcs"))


def _languages(world: Measurements, settings: LanguageSettings) -> Languages:
    return find_languages(
        world.cache, world.classes, settings, prompts=(PROMPT,), trains=True, load=world.load
    )


def _hits(world: Measurements, scorers: Sequence[Scorer], split: str) -> dict[str, dict[str, np.ndarray]]:
    """Return which videos of each kind were recognized, by the name of the scorer, [n] of 0 and 100."""
    found = {}
    for kind in KINDS:
        test = select_videos(world.cache, world.classes, split_of(kind, split))
        results = evaluate(world.cache, test, scorers, "full-classes", len(world.classes))
        found[kind] = {result.scorer: 100.0 * result.hits[0][1] for result in results}
    return found


def _renamed(row: str, called: dict[str, str]) -> str:
    """Return the name of a row with the languages as this table calls them."""
    for name in sorted(called, key=len, reverse=True):
        if name in row:
            return row.replace(name, called[name])
    return row


def _add(hits: Hits, row: str, kind: str, values: np.ndarray) -> None:
    hits.setdefault(row, {}).setdefault(kind, []).append(values)


def _table(hits: Hits, bases: Sequence[str]) -> str:
    """Return a table: figures, and differences to the row of the first language alone."""
    rows = []
    for base in bases:
        own = [row for row in hits if row == base or row.startswith((f"{base},", f"{base} +"))]
        for row in own:
            cells = []
            for kind in KINDS:
                # A row that is the same for all towers was added once for each.
                values = (
                    np.unique(np.stack(hits[row][kind]), axis=0) if row == base else np.stack(hits[row][kind])
                )
                first = np.stack(hits[base][kind])
                cells.append(figure(values) + (f"; {difference(values, first)}" if row != base else ""))
            rows.append([row, *cells])
    return table(["top-1 %", *KINDS], rows)


def main() -> None:
    """Read the command line, train what is missing, score, print."""
    parser = argparse.ArgumentParser(
        prog="python -m vidclip.demo.two_languages",
        description="What a second language brings in the demo's world.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("vidclip-demo-report"))
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a text tower (default: %(default)s)")
    parser.add_argument("--stills", type=int, default=STILLS, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="rendering processes (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, help="a document whose tables are replaced, such as docs/demo.md"
    )
    arguments = parser.parse_args()
    world = Measurements(arguments.folder, "demo-vit")
    training = arguments.steps, arguments.stills, arguments.workers
    chinese = towers(arguments.folder, "zh", *training)
    paraphrase = towers(arguments.folder, "paraphrase", *training)
    tables = {
        "languages": zero_shot(world, chinese, paraphrase, arguments.split),
        "languages-few-shot": few_shot(world, chinese, paraphrase, arguments.split),
    }
    for name, made in tables.items():
        print(f"\n{name}\n\n{made}")
    if arguments.output:
        filled = fill(arguments.output.read_text(encoding="utf-8"), tables)
        arguments.output.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
