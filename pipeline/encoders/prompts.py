"""Prompts of papers, by name."""

from __future__ import annotations

_DOING = ("{}", "a person {}", "a person using {}", "a person doing {}", "a person during {}",
          "a person performing {}", "a person practicing {}")  # fmt: skip

PROMPT_SETS: dict[str, tuple[str, ...]] = {
    "none": ("{}",),
    "bike": ("This is a video about {}",),
    "text4vis": ("a video of a person {}.",),
    # The 28 that CLIP's authors published for Kinetics: four openings, seven ways to be in the picture.
    "clip-kinetics": tuple(
        f"{opening} of {doing}."
        for opening in ("a photo", "a video", "a example", "a demonstration")
        for doing in _DOING
    ),
    # X-CLIP, supplement 2.2. It says sixteen and prints fifteen; the bare name is the sixteenth, as in the
    # list of ActionCLIP, which it cites.
    "x-clip": (
        "a photo of action {}", "a picture of action {}", "Human action of {}", "{}, an action",
        "{}, this is an action", "{}, a video of action", "Playing action of {}", "{}",
        "Playing a kind of action, {}", "Doing a kind of action, {}", "Look, the human is {}",
        "Can you recognize the action of {}", "Video classification of {}", "A video of {}", "The man is {}",
        "The woman is {}",
    ),
}  # fmt: skip


def check_prompt(prompt: str) -> None:
    """Raise ValueError where the place of the phrase is missing or there are two."""
    if prompt.count("{}") != 1:
        raise ValueError(
            f"a prompt needs one {{}} where the phrase goes, or is one of {', '.join(PROMPT_SETS)}; got {prompt!r}"
        )


def resolve_prompts(names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return prompts from names of sets and sentences with `{}`.

    Raises ValueError for a text that is neither.
    """
    prompts: list[str] = []
    for name in names:
        if name in PROMPT_SETS:
            prompts.extend(PROMPT_SETS[name])
        else:
            check_prompt(name)
            prompts.append(name)
    return tuple(dict.fromkeys(prompts))
