"""What a shell offers behind an option: the lexicons, the splits of the cache, the models. Nothing heavy is imported:
torch would take seconds at a press of a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def offered(option: str, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the values of an option that begin so; none where there is nothing to look at."""
    names = _OFFERS.get(option)
    if names is None:
        return []
    try:
        return [CompletionItem(name) for name in sorted(names(ctx)) if name.startswith(incomplete)]
    except Exception:  # a completion that fails offers nothing: it must not print into a command line
        return []


def _lexicons(_: click.Context) -> Iterable[str]:
    from ..lexicons import available_lexicons

    return (info.name for info in available_lexicons())


def _splits(ctx: click.Context) -> Iterable[str]:
    """The splits of the cache that is named so far, or else of `features`."""
    from ..cache import FeatureCache

    if not any(parameter.name == "cache" for parameter in ctx.command.params):
        return ()
    named = ctx.params.get("cache") or "features"
    folders = named if isinstance(named, (tuple, list)) else (named,)
    splits = {name for folder in folders for name in FeatureCache(Path(folder)).splits.used()}
    return {word for name in splits for word in name.split()} | {"all"}


def _models(_: click.Context) -> Iterable[str]:
    """Of open_clip, by the files that describe them, and of other packages."""
    from ..pipeline.encoders import plugin_names

    found = find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    names = {path.stem for folder in folders or () for path in Path(folder, "model_configs").glob("*.json")}
    return names | {"demo", "demo-vit"} | plugin_names()


_OFFERS: dict[str, Callable[[click.Context], Iterable[str]]] = {
    "--lexicon": _lexicons,
    "--second-lexicon": _lexicons,
    "--split": _splits,
    "--train-split": _splits,
    "--calibrate": _splits,
    "--none-of-these": _splits,
    "--model": _models,
}
