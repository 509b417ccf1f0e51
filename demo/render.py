"""Pictures and videos of the scenes of the world."""

from __future__ import annotations

import math

import cv2
import numpy as np

from . import poses
from .actions import Action
from .drawing import Camera, Pen
from .figures import Look, Placement, Pose, draw_back, draw_body, draw_front
from .places import PLACES
from .props import DOOR, PROPS, Prop, draw_part_open
from .world import Moment, Person, Scene, Thing, video_scene

SIZE = 128
"""Height and width of a video, pixels."""


def _place_prop(pen: Pen, prop: Prop, where: Placement, paint: int) -> None:
    if where.strand:
        pen.stroke(where.strand, 0.02, (150, 120, 80))
    prop.draw(pen.turned(where.at, where.angle, where.scale * prop.size), paint)


def _draw_figure(
    pen: Pen, look: Look, pose: Pose, layers: dict[int, tuple[Prop, Placement]], paint: int
) -> None:
    if 0 in layers:
        _place_prop(pen, *layers[0], paint)
    draw_back(pen, look, pose)
    draw_body(pen, look, pose)
    if 1 in layers:
        _place_prop(pen, *layers[1], paint)
    draw_front(pen, look, pose)


def _shadow(pen: Pen, x: float, wide: float) -> None:
    """A soft dark patch on the ground: half of the light is left."""
    left, top = pen.map((x - wide, 0.02))
    right, bottom = pen.map((x + wide, -0.02))
    size = pen.picture.shape[0]
    rows = slice(max(0, round(top)), min(size, max(round(bottom), round(top) + 1)))
    columns = slice(max(0, round(min(left, right))), min(size, round(max(left, right))))
    patch = pen.picture[rows, columns]
    patch -= patch >> 2


def lying(prop: Prop) -> Placement:
    """A prop on the ground in front of somebody."""
    if prop.long:
        return Placement((0.36, 0.06 if prop.name != "a ladder" else 0.11), math.pi / 2)
    return Placement((0.42, prop.height / 2))


def _draw_person(pen: Pen, person: Person, moment: Moment, doing: str) -> None:
    """pen in scene units."""
    seconds = moment.seconds
    phase = person.phase + person.tempo * seconds
    action = person.action
    moving = action.verb if doing in ("action", "miming") else doing
    drift = poses.DRIFT.get(moving, 0.0) * person.stride * person.tempo * (seconds - 1.2) * person.height
    figure = pen.figure(person.x + person.facing * drift, person.ground, person.height, person.facing)
    if doing == "story":
        _draw_story(figure, person, moment.progress)
        return
    prop = PROPS.get(action.prop)
    layers: dict[int, tuple[Prop, Placement]] = {}
    if doing in ("action", "miming", "posing") and prop is not None:
        pose, where = moment.pose or poses.VERBS[action.verb](phase, prop)
        if doing != "miming":
            layers[where.layer] = (prop, where)
        if pose.mirrored:
            figure = pen.figure(
                person.x + person.facing * drift, person.ground, person.height, -person.facing
            )
    else:
        pose = poses.walking(phase) if doing == "walking" else poses.standing(phase)
    _shadow(figure, pose.hip[0], 0.17)
    _draw_figure(figure, person.look, pose, layers, person.prop_paint)


def _draw_story(figure: Pen, person: Person, progress: float) -> None:
    move, thing = poses.STORIES[person.action.prop]
    prop = DOOR if thing == "a door" else PROPS[person.action.prop]
    pose, where = move(progress, prop)
    _shadow(figure, pose.hip[0], 0.17)
    if thing in ("a box", "a chair"):
        _draw_figure(figure, person.look, pose, {where.layer: (prop, where)}, person.prop_paint)
        return
    pen = figure.turned(where.at, where.angle, where.scale)
    if where.layer == 0:
        draw_part_open(pen, thing, person.prop_paint, progress)
    draw_back(figure, person.look, pose)
    draw_body(figure, person.look, pose)
    if where.layer == 1:
        draw_part_open(pen, thing, person.prop_paint, progress)
    draw_front(figure, person.look, pose)


def _draw_thing(pen: Pen, thing: Thing) -> None:
    figure = pen.figure(thing.x, thing.ground, thing.height, thing.facing)
    prop = PROPS[thing.prop]
    where = lying(prop)
    _shadow(figure, 0.0, prop.width * 0.5)
    _place_prop(figure, prop, Placement((0.0, where.at[1]), where.angle), thing.paint)


def render_still(scene: Scene, moment: Moment, size: int = SIZE) -> np.ndarray:
    """One frame.

    scene, moment  what is there, and what happens
    size           height and width, pixels
    Returns [size, size, 3] uint8, RGB.
    """
    picture = np.empty((size, size, 3), np.uint8)
    seconds = moment.seconds
    camera = Camera(
        scene.camera.x + scene.pan * (seconds - 1.2),
        scene.camera.y,
        scene.camera.zoom + scene.zooming * (seconds - 1.2),
    )
    pen = Pen.of_camera(picture, camera)
    PLACES[scene.place](pen, np.asarray(scene.details), seconds)
    for thing in scene.clutter:
        if thing.ground <= scene.person.ground:
            _draw_thing(pen, thing)
    if scene.other and moment.other_acts:
        _draw_person(pen, scene.other, moment, "action")
    if moment.prop_lies:
        person = scene.person
        figure = pen.figure(person.x, person.ground, person.height, person.facing)
        prop = PROPS[person.action.prop]
        _place_prop(figure, prop, lying(prop), person.prop_paint)
    if moment.doing != "nobody":
        _draw_person(pen, scene.person, moment, moment.doing)
    for thing in scene.clutter:
        if thing.ground > scene.person.ground:
            _draw_thing(pen, thing)
    return _lit(picture, scene.light, scene.warmth)


def _lit(picture: np.ndarray, light: float, warmth: float) -> np.ndarray:
    table = np.arange(256)[:, None] * (light * np.array([1 + warmth, 1.0, 1 - warmth]))
    return cv2.LUT(picture, np.minimum(table, 255).astype(np.uint8)[:, None, :])


def render_video(action: Action, seed: int, kind: str = "trimmed") -> np.ndarray:
    """The video (class, seed) of a kind.

    Returns [T, SIZE, SIZE, 3] uint8, RGB, with T = N_FRAMES[kind], at FRAMES_PER_SECOND frames a second.
    """
    scene, moments = video_scene(action, seed, kind)
    return np.stack([render_still(scene, moment) for moment in moments])
