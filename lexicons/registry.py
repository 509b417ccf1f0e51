"""The table of the lexicons that come with vidclip. A new one is a text file and an entry here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A lexicon that is found by name."""

    name: str
    """Canonical name; its file is ``<name>.txt`` in this folder."""

    description: str
    """What the list is, in a few words."""

    source: str
    """Who published it."""

    aliases: tuple[str, ...] = ()
    """Other names; case, spaces, hyphens and underscores never matter in any of them."""


_ZERO_SHOT_SOURCE = (
    "Chen and Huang 2021, Elaborative Rehearsal (ER-ZSAR): 160 of the 220 classes that Kinetics-400 lacks"
)

ABSENT = {
    "something-something-v2": "ssv2 sthv2",
    "kinetics710": "k710",
    "ucf50": "",
    "activitynet100": "activitynet1.2 anet1.2",
}
"""Class names that do not come with vidclip, though their names are close to some that do -> their other names. Nobody means
version 1 who writes version 2."""

ENTRIES = (
    Entry(
        "kinetics400",
        "400 human actions",
        "Kay et al. 2017, The Kinetics Human Action Video Dataset",
        ("k400",),
    ),
    Entry(
        "kinetics600", "600 human actions", "Carreira et al. 2018, A Short Note about Kinetics-600", ("k600",)
    ),
    Entry(
        "kinetics700", "700 human actions", "Carreira et al. 2019, A Short Note on Kinetics-700", ("k700",)
    ),
    Entry(
        "kinetics600-zeroshot-1", "Kinetics-600 zero-shot split 1", _ZERO_SHOT_SOURCE, ("k600-zeroshot-1",)
    ),
    Entry(
        "kinetics600-zeroshot-2", "Kinetics-600 zero-shot split 2", _ZERO_SHOT_SOURCE, ("k600-zeroshot-2",)
    ),
    Entry(
        "kinetics600-zeroshot-3", "Kinetics-600 zero-shot split 3", _ZERO_SHOT_SOURCE, ("k600-zeroshot-3",)
    ),
    Entry("ucf101", "101 actions and sports", "Soomro et al. 2012, UCF101", ("ucf",)),
    Entry("hmdb51", "51 human motions", "Kuehne et al. 2011, HMDB", ("hmdb",)),
    Entry(
        "activitynet",
        "200 activities in untrimmed videos",
        "Caba Heilbron et al. 2015, ActivityNet (release 1.3)",
        ("activitynet200", "anet"),
    ),
    Entry(
        "charades",
        "157 household actions, several a video",
        "Sigurdsson et al. 2016, Charades",
        ("charades157",),
    ),
    Entry(
        "something-something-v1",
        "174 templates of what hands do to things",
        "Goyal et al. 2017, Something-Something (version 1)",
        ("ssv1", "sthv1"),
    ),
    Entry(
        "imagenet1k",
        "1,000 object categories, readable names",
        "Russakovsky et al. 2015, ImageNet; names as curated by OpenAI for CLIP",
        ("imagenet", "in1k"),
    ),
    Entry("demo", "what the videos of `vidclip demo` can show: props, places, shirts, poses", "vidclip"),
    Entry("demo-classes", "the actions of `vidclip demo`", "vidclip"),
    Entry("demo-order", "its pairs of actions that differ in order alone", "vidclip"),
    Entry("demo-paraphrase", "`demo` as English sentences", "vidclip"),
    Entry("demo-classes-paraphrase", "`demo-classes` as English sentences", "vidclip"),
    Entry("demo-order-paraphrase", "`demo-order` as English sentences", "vidclip"),
    *(
        Entry(f"{name}-zh", f"`{name}` in simplified Chinese", "vidclip")
        for name in (
            "kinetics400",
            "ucf101",
            "hmdb51",
            "something-something-v1",
            "demo",
            "demo-classes",
            "demo-order",
        )
    ),
)
