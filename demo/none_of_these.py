"""`none of these` in the demo's world: a threshold chosen on some of the 23 unseen classes, and tested on the others.

    python -m vidclip.demo.none_of_these CACHE      # of videos of the world, with splits validation and test

The lexicon is the 52 seen classes, so that videos of the unseen ones are of none; probabilities are calibrated on the validation
videos of seen classes. 12 unseen classes choose, 11 others test, and that for 200 draws of the 12. The classes are each
other's neighbors (`kicking a drum` is none, `kicking a ball` is one): an easier world rejects more.
"""

from __future__ import annotations

import argparse

import numpy as np

from ..cache import CacheError, FeatureCache
from ..lexicons import Lexicon
from ..pipeline.evaluation import choose_rejection, known_and_outside, zero_shot_predictor
from .actions import ACTIONS

RATES = (0.05, 0.1, 0.2)
DRAWS = 200


def halves(
    outside: np.ndarray, groups: list[str], known: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return for every draw [DRAWS] the share of the other classes' videos that get a class, and that of known ones.

    outside    [n] confidences of videos of no class, `groups` the class of each
    known      [m] confidences of videos of classes in the lexicon
    """
    names, own = np.unique(groups), np.array(groups)
    wrong, named = np.empty(DRAWS), np.empty(DRAWS)
    for seed in range(DRAWS):
        chosen = np.isin(own, np.random.default_rng(seed).permutation(names)[: (len(names) + 1) // 2])
        labels = own[chosen].tolist()
        found = choose_rejection(outside[chosen], labels, known, rate, rule="outside", split="test")
        wrong[seed] = np.mean(outside[~chosen] > found.threshold)
        named[seed] = np.mean(known > found.threshold)
    return wrong, named


def main(folder: str) -> None:
    """Print a table for every rate."""
    seen = tuple(action.name for action in ACTIONS if action.seen)
    cache, lexicon = FeatureCache(folder), Lexicon("seen", seen, seen)
    predictor = zero_shot_predictor(cache, lexicon).calibrated(cache, "validation")
    known, indices, groups = known_and_outside(cache, lexicon, "test")
    outside, inside = predictor.confidences(cache, indices), predictor.confidences(cache, known.indices)
    print(f"{len(outside)} videos of {len(set(groups))} classes outside, {len(inside)} of {len(seen)} inside")
    print("| asked, % | of other classes get one, %: mean, 95 % of draws | of known videos get one, % |")
    print("|---|---|---|")
    for rate in RATES:
        wrong, named = halves(outside, groups, inside, rate)
        low, high = np.quantile(100 * wrong, [0.025, 0.975])
        print(
            f"| {100 * rate:g} | {100 * wrong.mean():.1f} [{low:.1f}, {high:.1f}] | {100 * named.mean():.1f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m vidclip.demo.none_of_these", description="How well `none of these` keeps its rate."
    )
    parser.add_argument("cache", help="of the demo's videos, with splits validation and test")
    try:
        main(parser.parse_args().cache)
    except CacheError as error:
        parser.error(str(error))
