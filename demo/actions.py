"""The classes of the world: what is done with what, which pairs the encoder never meets, and the pairs of opposite order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """A class of videos: a verb and a prop."""

    verb: str
    """As in "kicking"."""
    prop: str
    """With its article: "a ball"."""
    seen: bool = True
    """Whether the encoder's training stills and captions contain this pair."""

    @property
    def name(self) -> str:
        """The label: "kicking a ball"."""
        return f"{self.verb} {self.prop}"


# Verb: props met in training / props that the encoder has only met with other verbs.
_PAIRS: dict[str, tuple[str, str]] = {
    "kicking": ("ball box tyre balloon", "bucket drum"),
    "throwing": ("box bucket balloon", "ball tyre"),
    "carrying": ("dog ladder chair guitar barrel", "box drum"),
    "climbing": ("ladder rope", ""),
    "waving": ("flag umbrella stick", "balloon rope"),
    "jumping over": ("dog log barrel bucket", "box tyre"),
    "sitting on": ("chair barrel drum tyre box", "log ball"),
    "pushing": ("box chair tyre drum", "barrel log"),
    "pulling": ("box drum log barrel", "dog chair"),
    "swinging": ("stick rope bucket flag", "umbrella guitar"),
    "lifting": ("log ball tyre chair", "dog ladder"),
    "standing on": ("box drum log ball", "barrel chair"),
    "balancing": ("ball box bucket umbrella", "drum"),
    "playing": ("guitar drum", ""),
}


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun == "umbrella" else f"a {noun}"


ACTIONS: tuple[Action, ...] = tuple(
    Action(verb, _with_article(noun), seen)
    for verb, split in _PAIRS.items()
    for seen, nouns in zip((True, False), split, strict=True)
    for noun in nouns.split()
)
"""The zero-shot classes in their official order: 52 seen pairs and 23 unseen ones."""

ORDER_PAIRS: tuple[tuple[Action, Action], ...] = (
    (Action("picking up", "a box"), Action("putting down", "a box")),
    (Action("standing up from", "a chair"), Action("sitting down on", "a chair")),
    (Action("opening", "an umbrella"), Action("closing", "an umbrella")),
    (Action("opening", "a door"), Action("closing", "a door")),
    (Action("raising", "a flag"), Action("lowering", "a flag")),
)
"""Pairs whose videos are each other's reverse: the same stills, so only their order tells them apart.

Both names of a pair are equally true of any of its stills. They are no zero-shot classes.
"""

UNSEEN_PAIRS: frozenset[tuple[str, str]] = frozenset((a.verb, a.prop) for a in ACTIONS if not a.seen)
"""(verb, prop) of the pairs that no training still shows and no training caption names."""

_BY_NAME = {action.name: action for action in (*ACTIONS, *(a for pair in ORDER_PAIRS for a in pair))}


def action_named(name: str) -> Action:
    """The action of a label; raises ValueError when the world has none of that name."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(
            f'the demo has no class "{name}"; `vidclip lexicons demo-classes` lists its classes.'
        ) from None


def order_pair(action: Action) -> tuple[Action, bool] | None:
    """For a class of an order pair, the pair's first class and whether this one runs it backwards; else None."""
    for forward, backward in ORDER_PAIRS:
        if action in (forward, backward):
            return forward, action == backward
    return None
