"""What is true of a still, and sentences that say some of it.

A fact is a short string such as "verb:kicking", "prop:a ball", "pair:kicking a ball", "place:on the beach". A caption
knows, for each of its words, which facts are asserted once that word has been read: a causal text tower sees no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .actions import ACTIONS, ORDER_PAIRS, UNSEEN_PAIRS
from .figures import SHIRTS
from .places import PLACES
from .poses import VERBS
from .props import PROPS
from .world import Moment, Scene

Facts = frozenset[str]

PROMPTS = ("This is a video about {}", "a video of a person {}.", "{}")
"""Prompts that names of actions are put into, with equal chance."""
MAX_ATTRIBUTES = 7
"""Phrases in an attribute sentence, at most."""

POSTURES: dict[str, str] = {
    "jumping over": "jumping",
    "sitting on": "sitting",
    "pushing": "leaning forward",
    "pulling": "leaning back",
    "waving": "one arm raised",
    "balancing": "arms spread",
    "standing on": "arms spread",
    "carrying": "walking",
    "walking": "walking",
    "standing": "standing still",
}
"""How somebody looks who does something; other verbs have no word for it."""

_BARE_VERBS = {verb: verb for verb in VERBS} | {"jumping over": "jumping", "sitting on": "sitting"}


def phrases() -> dict[str, Facts]:
    """The attribute phrases and what each asserts; their order is that of the lexicon `demo`."""
    table: dict[str, Facts] = {}
    for prop in (*PROPS, "a door"):
        table[prop] = frozenset((f"prop:{prop}",))
    for place in PLACES:
        table[place] = frozenset((f"place:{place}",))
    for shirt in SHIRTS:
        table[f"a {shirt} shirt" if shirt != "orange" else "an orange shirt"] = frozenset((f"shirt:{shirt}",))
    for verb in VERBS:
        table.setdefault(_BARE_VERBS[verb], frozenset((f"verb:{verb}",)))
    for posture in dict.fromkeys(POSTURES.values()):
        table.setdefault(posture, frozenset((f"posture:{posture}",)))
    table["nobody"] = frozenset(("people:0",))
    table["two people"] = frozenset(("people:2",))
    return table


PHRASES = phrases()
FACTS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [fact for facts in PHRASES.values() for fact in sorted(facts)]
        + [f"verb:{verb}" for verb in VERBS]
        + [f"pair:{a.name}" for a in ACTIONS if a.seen]
        + [f"story:{a.prop}" for a, _ in ORDER_PAIRS]
    )
)
"""All facts that captions assert, in a fixed order. No unseen pair is among them."""
_FACT_INDEX = {fact: i for i, fact in enumerate(FACTS)}


def facts_of(scene: Scene, moment: Moment) -> Facts:
    """All that is true of a still; for unseen pairs too, which `FACTS` lacks and captions cannot say."""
    facts = {f"place:{scene.place}"} | {f"prop:{thing.prop}" for thing in scene.clutter}
    people = []
    if moment.doing != "nobody":
        people.append((scene.person, moment.doing))
    if scene.other and moment.other_acts:
        people.append((scene.other, "action"))
    if moment.prop_lies:
        facts.add(f"prop:{scene.person.action.prop}")
    for person, doing in people:
        action = person.action
        facts.add(f"shirt:{person.look.shirt}")
        if doing in ("action", "miming"):
            facts.add(f"verb:{action.verb}")
        if doing in ("action", "posing", "story"):
            facts.add(f"prop:{action.prop}")
        if doing == "action":
            facts.add(f"pair:{action.name}")
        if doing == "story":
            facts.add(f"story:{action.prop}")
        posture = POSTURES.get(action.verb if doing in ("action", "miming") else doing)
        if posture:
            facts.add(f"posture:{posture}")
    facts.add(f"people:{len(people)}")
    return frozenset(facts)


def shows_unseen_pair(facts: Facts) -> bool:
    """Whether the verb and the prop of an unseen pair are both there, even in different hands."""
    return any(f"verb:{verb}" in facts and f"prop:{prop}" in facts for verb, prop in UNSEEN_PAIRS)


def fact_vector(facts: Facts) -> np.ndarray:
    """[len(FACTS)] uint8, 1 where a fact holds; facts outside `FACTS` are left out."""
    vector = np.zeros(len(FACTS), np.uint8)
    vector[[_FACT_INDEX[fact] for fact in facts if fact in _FACT_INDEX]] = 1
    return vector


@dataclass(frozen=True)
class Caption:
    """A sentence, and what its words assert."""

    words: tuple[str, ...]
    """In order; "," and "." are words."""
    asserted: tuple[Facts | None, ...]
    """For each word: the facts asserted up to and with it; None inside a phrase that is not finished."""

    @property
    def text(self) -> str:
        """The sentence as it is written."""
        return " ".join(self.words).replace(" , ", ",").replace(" .", ".")

    @property
    def facts(self) -> Facts:
        """All that the sentence asserts."""
        return next((facts for facts in reversed(self.asserted) if facts is not None), frozenset())


_Part = tuple[tuple[str, ...], tuple[Facts | None, ...]]
_NOTHING: Facts = frozenset()


def _silent(text: str) -> _Part:
    words = tuple(text.split())
    return words, (None,) * len(words)


def _phrase(text: str) -> _Part:
    """A phrase of the lexicon: it asserts its facts with its last word (a lone article or adjective says nothing)."""
    words = tuple(text.split())
    return words, (*(None for _ in words[:-1]), PHRASES[text])


def name_part(verb: str, prop: str, facts_of_pair: Facts) -> _Part:
    """The name of an action: its verb is asserted as soon as it is complete, the pair with the last word."""
    verb_words, prop_words = verb.split(), prop.split()
    verb_facts = frozenset((f"verb:{verb}",)) if f"verb:{verb}" in _FACT_INDEX else None
    first: Facts | None = (
        verb_facts if len(verb_words) == 1 or verb_words[0] in ("jumping", "sitting") else None
    )
    heard = (first, *(verb_facts for _ in verb_words[1:]), *(verb_facts for _ in prop_words[:-1]))
    return (*verb_words, *prop_words), (*heard, facts_of_pair)


def _join(parts: list[_Part]) -> Caption:
    words: list[str] = []
    asserted: list[Facts | None] = []
    so_far = _NOTHING
    for part_words, part_facts in parts:
        known = so_far
        for word, facts in zip(part_words, part_facts, strict=True):
            words.append(word)
            asserted.append(None if facts is None else so_far | facts)
            known = known if facts is None else so_far | facts
        so_far = known
    return Caption(tuple(words), tuple(asserted))


def _names(facts: Facts) -> list[_Part]:
    """Names of what is going on; an order pair's two names are equally true."""
    parts = []
    for action in ACTIONS:
        if f"pair:{action.name}" in facts and action.seen:
            pair = frozenset((f"verb:{action.verb}", f"prop:{action.prop}", f"pair:{action.name}"))
            parts.append(name_part(action.verb, action.prop, pair))
    for forward, backward in ORDER_PAIRS:
        if f"story:{forward.prop}" in facts:
            story = frozenset((f"story:{forward.prop}", f"prop:{forward.prop}"))
            parts += [name_part(a.verb, a.prop, story) for a in (forward, backward)]
    return parts


def _in_prompt(part: _Part, rng: np.random.Generator) -> list[_Part]:
    before, after = PROMPTS[rng.integers(len(PROMPTS))].split("{}")
    return [_silent(before), part, _silent(after)]


def make_caption(facts: Facts, rng: np.random.Generator) -> Caption:
    """A true sentence about a still: the name of its action in a prompt, a description, or a list of attributes."""
    names = _names(facts)
    true = [phrase for phrase, asserted in PHRASES.items() if asserted <= facts]
    kind = rng.random()
    if names and kind < 0.45:
        return _join(_in_prompt(names[rng.integers(len(names))], rng))
    if names and kind < 0.6:
        parts = [names[rng.integers(len(names))]]
        places = [phrase for phrase in true if phrase in PLACES]
        shirts = [phrase for phrase in true if phrase.endswith("shirt")]
        if len(shirts) == 1 and rng.random() < 0.5:
            parts = [_silent("a person in"), _phrase(shirts[0]), *parts]
        if len(parts) == 1 or rng.random() < 0.5:
            parts.append(_phrase(places[0]))
        return _join(parts)
    # Things and deeds are told more often than places and shirts, of which every still has some.
    weights = np.array([0.35 if phrase in PLACES or phrase.endswith("shirt") else 1.0 for phrase in true])
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, MAX_ATTRIBUTES + 1))
    chosen = rng.choice(len(true), size=min(count, len(true)), replace=False, p=weights / weights.sum())
    if rng.random() < 0.6:
        parts = [_silent("This is a video about")]
    elif len(chosen) == 1 and rng.random() < 0.5:
        parts = [
            _silent("a person with" if true[chosen[0]] in PROPS and "people:1" in facts else "a video of")
        ]
    else:
        parts = []
    for i, k in enumerate(chosen):
        parts += ([_silent(",")] if i else []) + [_phrase(true[k])]
    return _join(parts)


def vocabulary() -> tuple[str, ...]:
    """Every word that captions are made of, sorted."""
    texts = [
        *PHRASES,
        *(p.format("") for p in PROMPTS),
        "a person in",
        "a person with",
        "a video of",
        ",",
        ".",
    ]
    texts += [action.name for action in ACTIONS] + [a.name for pair in ORDER_PAIRS for a in pair]
    return tuple(sorted({word for text in texts for word in text.replace(".", " .").split()}))
