"""Stills with captions that the encoder is trained on. No still shows an unseen pair, not even in two people's hands."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from .actions import ACTIONS, ORDER_PAIRS, Action
from .captions import FACTS, Caption, Facts, fact_vector, facts_of, make_caption, shows_unseen_pair
from .figures import Placement, Pose
from .props import PROPS
from .render import render_still
from .world import Moment, Scene, sample_scene

IMAGE_SIZE = 64
"""Height and width of what the encoder sees, pixels."""

_SEEN = tuple(action for action in ACTIONS if action.seen)
_STORIES = tuple(forward for forward, _ in ORDER_PAIRS)

# What a still shows, and how often.
_MIX = {
    "action": 0.48,  # somebody does a seen action
    "distracted": 0.08,  # somebody idles while another, further back, does a seen action
    "idle": 0.1,  # somebody stands or walks, with or without props that lie about
    "posing": 0.16,  # any pose, any prop anywhere near: a prop looks the same whatever is done with it
    "miming": 0.08,  # a movement without its prop: a movement looks the same whatever it is done with
    "nobody": 0.06,  # a place, perhaps with props
    "story": 0.04,  # a still of an order pair
}


def _clutter(rng: np.random.Generator, chance: float, most: int = 1) -> tuple[str, ...]:
    if rng.random() >= chance:
        return ()
    names = list(PROPS)
    return tuple(names[i] for i in rng.choice(len(names), size=int(rng.integers(1, most + 1)), replace=False))


def _any_pose(rng: np.random.Generator) -> tuple[Pose, Placement]:
    """A body in any pose, and a prop in its hands or anywhere near."""
    hip = (float(rng.uniform(-0.15, 0.15)), float(rng.uniform(0.3, 0.55)))
    near = (float(rng.uniform(-0.3, 0.4)), float(rng.uniform(0.25, 1.1)))
    far = (
        (near[0] + 0.05, near[1])
        if rng.random() < 0.5
        else (float(rng.uniform(-0.3, 0.4)), float(rng.uniform(0.25, 1.1)))
    )
    feet = rng.uniform(-0.3, 0.3, 2)
    lifts = rng.uniform(0, 0.25, 2) * (rng.random(2) < 0.3)
    pose = Pose(hip=hip, lean=float(rng.uniform(-0.5, 0.8)), near_hand=near, far_hand=far, nod=float(rng.uniform(-0.3, 0.3)),
                near_foot=(float(feet[0]), float(lifts[0])), far_foot=(float(feet[1]), float(lifts[1])))  # fmt: skip
    if rng.random() < 0.5:
        at = (near[0] + float(rng.uniform(-0.05, 0.15)), near[1] + float(rng.uniform(-0.1, 0.2)))
    else:
        at = (float(rng.uniform(-0.5, 0.7)), float(rng.uniform(0.1, 1.3)))
    angle = 0.0 if rng.random() < 0.5 else float(rng.uniform(-np.pi, np.pi))
    return pose, Placement(at, angle, layer=int(rng.integers(2)), scale=float(rng.uniform(0.85, 1.15)))


def _draw_scene(rng: np.random.Generator) -> tuple[Scene, Moment]:
    kind = str(rng.choice(list(_MIX), p=list(_MIX.values())))
    seconds = float(rng.uniform(0, 3.1))
    action = _SEEN[rng.integers(len(_SEEN))]
    if kind == "action":
        return sample_scene(action, rng, clutter=_clutter(rng, 0.3)), Moment(seconds)
    if kind == "distracted":
        other = _SEEN[rng.integers(len(_SEEN))]
        doing = ("standing", "walking", "nobody")[rng.integers(3)]
        lies = bool(rng.random() < 0.5)
        scene = sample_scene(action, rng, other=other, clutter=_clutter(rng, 0.15))
        return scene, Moment(seconds, doing, prop_lies=lies, other_acts=True)
    if kind == "idle":
        doing = ("standing", "walking")[rng.integers(2)]
        scene = sample_scene(action, rng, clutter=_clutter(rng, 0.5, 2))
        return scene, Moment(seconds, doing, prop_lies=bool(rng.random() < 0.6))
    if kind == "posing":
        prop = list(PROPS)[rng.integers(len(PROPS))]
        scene = sample_scene(Action("posing", prop), rng, clutter=_clutter(rng, 0.15))
        return scene, Moment(seconds, "posing", pose=_any_pose(rng))
    if kind == "miming":
        return sample_scene(action, rng, clutter=_clutter(rng, 0.3)), Moment(seconds, "miming")
    if kind == "nobody":
        scene = sample_scene(action, rng, clutter=_clutter(rng, 0.8, 2))
        return scene, Moment(seconds, "nobody", prop_lies=bool(rng.random() < 0.3))
    story = _STORIES[rng.integers(len(_STORIES))]
    scene = sample_scene(story, rng)
    return scene, Moment(seconds, "story", progress=float(rng.random()))


def sample_still(rng: np.random.Generator) -> tuple[Scene, Moment, Facts]:
    """A training still's scene and moment, and what is true of it; never one with an unseen pair."""
    while True:
        scene, moment = _draw_scene(rng)
        facts = facts_of(scene, moment)
        if not shows_unseen_pair(facts):
            return scene, moment, facts


def shrink(picture: np.ndarray) -> np.ndarray:
    """[S, S, 3] uint8 to [IMAGE_SIZE, IMAGE_SIZE, 3], as open_clip's preprocessing does it."""
    return np.asarray(Image.fromarray(picture).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class StillBatch:
    """B stills, each with captions."""

    images: np.ndarray
    """[B, IMAGE_SIZE, IMAGE_SIZE, 3] uint8, RGB."""
    captions: list[Caption]
    more_captions: list[Caption]
    """Another caption of each still."""
    facts: np.ndarray
    """[B, len(FACTS)] uint8: what is true of each still."""


def still_batch(n: int, seed: int, index: int) -> StillBatch:
    """The batch `index` of n stills of the training run `seed`; the same whichever process makes it."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([seed, index, 0x57111])
    images = np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    facts = np.empty((n, len(FACTS)), np.uint8)
    captions: tuple[list[Caption], list[Caption]] = ([], [])
    for i in range(n):
        scene, moment, true = sample_still(rng)
        images[i] = shrink(render_still(scene, moment))
        facts[i] = fact_vector(true)
        for chosen in captions:
            chosen.append(make_caption(true, rng))
    return StillBatch(images, *captions, facts)
