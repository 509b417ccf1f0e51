"""The page of a report: its numbers are those of `eval`, its structure that of a document, its texts never markup."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from helpers import a_record, save_video, vidclip
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline import ScoringSettings, build_scorers, lexicon_from_labels, plan_zero_shot
from vidclip.pipeline.encoders import EncoderLoader, load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.report import (
    Decisions,
    NoPicture,
    choose_examples,
    compute_page,
    gallery_videos,
    most_confused,
    read_strips,
    read_thumbnails,
    render_page,
)
from vidclip.pipeline.report.html import MOST_BYTES, json_in_script
from vidclip.pipeline.report.thumbnails import encode_within
from vidclip.pipeline.scoring import MeanScorer
from vidclip.pipeline.video import Sampling

VOID = {"meta", "img", "input", "br", "link", "hr"}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\'"&amp;\u202etxt\u2066'
ODD = {3: HOSTILE, 4: " \u2028 \x1b[2J"}
LABELS = ("run", "jump", "swim", f"a {HOSTILE}", "打太极拳", "bytes \udcff", "{{ 7 * 7 }}")


class Tree(HTMLParser):
    """The elements of a page: (tag, attributes, tags around it, text directly inside), in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, [self.elements[i][0] for i in self._open]

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} is there twice"
        around = tuple(self.elements[i][0] for i in self._open)
        self.elements.append((tag, {name: value or "" for name, value in attrs}, around, []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> ends nothing"
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for i in self._open:
            self.elements[i][3].append(data)

    def all(self, tag, **wanted):
        return [
            (attributes, "".join(text))
            for name, attributes, _, text in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def data(self):
        [(_, text)] = self.all("script", id="data")
        return json.loads(text, parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_model) -> Path:
    """A folder with a cache of 42 videos of seven labels, of which the first six are files."""
    folder = tmp_path_factory.mktemp("world")
    encoder, rng = load_encoder(tiny_model, device="cpu"), np.random.default_rng(0)
    with CacheWriter(folder / "features", cache_identity(encoder, Sampling(4))) as writer:
        for i in range(42):
            id = f"{i:02}{ODD.get(i, '')}.mp4"
            path = folder / f"{i}.mp4"
            record = a_record(id, rng, labels=(LABELS[i % 7],), split="test")
            size = save_video(path, frames=12, seed=i).stat().st_size if i < 6 else 99
            frames = rng.standard_normal((1, 4, 32)).astype(np.float32)
            places = np.arange(4)[None] * 3
            writer.add(
                replace(record, path=str(path), frames=frames, frame_indices=places, source_bytes=size)
            )
    (folder / "vidclip.toml").write_text(f"model = {json.dumps(tiny_model)}\n")
    (folder / "phrases.txt").write_text("".join(f"phrase {HOSTILE[:30]} {i}\n" for i in range(6)))
    return folder


SETTINGS = ("--pool", "mean", "--pool", "vcs", "--attributes", "phrases.txt", "--device", "cpu")


@pytest.fixture(scope="module")
def page(world) -> str:
    done = vidclip("report", *SETTINGS, "--workers", "1", "--output", "page.html", cwd=world)
    assert done.returncode == 0, done.stderr
    assert "page.html: 42 videos" in done.stdout
    assert "36 videos without a picture" in done.stderr
    return (world / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(page) -> Tree:
    return Tree(page)


@pytest.fixture(scope="module")
def computed(world, tiny_model):
    cache = FeatureCache(world / "features")
    lexicon, scoring = lexicon_from_labels(cache), ScoringSettings(pools=("mean", "max"))
    load = EncoderLoader("cpu", [(tiny_model, "")])
    plan = plan_zero_shot(cache, lexicon)
    scorers = build_scorers(cache, lexicon, scoring, load=load, device="cpu")
    return cache, compute_page(cache, lexicon, plan, scorers, scoring, load=load, device="cpu", n_examples=4)


# --- numbers


def test_figures_are_those_of_eval(world, tree):
    done = vidclip("eval", *SETTINGS, "--json", "-", cwd=world)
    assert done.returncode == 0, done.stderr
    [document] = json.loads(done.stdout)
    scorers = tree.data()["scorers"]
    assert [each["name"] for each in scorers] == [each["scorer"] for each in document["results"]]
    assert [each["figures"] for each in scorers] == [each["figures"] for each in document["results"]]
    text = " ".join("".join(text) for tag, _, _, text in tree.elements if tag == "td")
    for result in document["results"]:
        for figure in result["figures"].values():
            assert f"{figure['mean']:.1f}" in text
            if figure["low"] is not None:
                assert f"[{figure['low']:.1f}, {figure['high']:.1f}]" in text
    for comparison in document["comparisons"]:
        assert (
            f"{comparison['difference']:+.1f} [{comparison['low']:+.1f}, {comparison['high']:+.1f}]" in text
        )


def test_decisions_add_up_to_the_figures(tree):
    data = tree.data()
    targets = np.array(data["targets"])
    for scorer in data["scorers"]:
        right = np.array(scorer["predicted"]) == targets
        assert 100 * right.mean() == pytest.approx(scorer["figures"]["top1"]["mean"])
        assert np.bincount(targets[right], minlength=7).tolist() == scorer["hits"]
        higher = np.array(scorer["score"]) - np.array(scorer["label_score"])
        assert (higher[right] == 0).all()
        assert (higher >= 0).all()
        counts: dict[tuple[int, int], int] = {}
        for own, taken in zip(targets.tolist(), scorer["predicted"], strict=True):
            if own != taken:
                counts[own, taken] = counts.get((own, taken), 0) + 1
        assert [pair[2] for pair in scorer["pairs"]] == sorted(counts.values(), reverse=True)[:20]
        for label, taken, count, examples in scorer["pairs"]:
            assert counts[label, taken] == count
            assert all((targets[n], scorer["predicted"][n]) == (label, taken) for n in examples)
            assert len(examples) == min(count, 4)


def test_the_gallery_says_what_the_data_says(tree):
    data = tree.data()
    cards = [attributes for attributes, _ in tree.all("li") if "data-n" in attributes]
    assert [int(card["data-n"]) for card in cards] == list(range(42))
    first = data["scorers"][0]
    assert [card["class"] for card in cards] == [
        f"card is-{'right' if own == taken else 'wrong'}"
        for own, taken in zip(data["targets"], first["predicted"], strict=True)
    ]
    texts = [text for attributes, text in tree.all("li") if "data-n" in attributes]
    for n, text in enumerate(texts):
        assert data["labels"][data["targets"][n]] in text
        assert data["labels"][first["predicted"][n]] in text
        assert f"{first['score'][n]:.3f}"[:4] in text


def test_pairs_and_examples_of_known_decisions():
    targets = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    predicted = np.array([1, 1, 0, 1, 0, 1, 2, 2])
    score = np.array([0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    decisions = Decisions("mean", predicted, score, np.where(predicted == targets, score, 0.4))
    pairs = most_confused(decisions, targets, 3)
    assert [(pair.label, pair.taken, pair.count) for pair in pairs] == [(0, 1, 2), (1, 0, 1), (2, 1, 1)]
    assert pairs[0].examples == (1, 0), "the worst mistake first"
    assert len(most_confused(decisions, targets, 3, most=1)) == 1
    for count in range(12):
        chosen = choose_examples(decisions, targets, count)
        assert len(set(chosen)) == len(chosen) == min(count, 8)
        wrong = (predicted != targets)[chosen].sum()
        assert wrong == min(4, (count + 1) // 2) or count > 8
    six = choose_examples(decisions, targets, 6)
    assert set(targets[six]) == {0, 1, 2}
    all_right = replace(decisions, predicted=targets)
    assert (
        len(choose_examples(all_right, targets, 3))
        == len(set(targets[choose_examples(all_right, targets, 3)]))
        == 3
    )
    assert most_confused(all_right, targets, 3) == []


# --- structure


def test_it_is_a_document_with_landmarks_and_headings_in_order(page, tree):
    assert page.startswith('<!DOCTYPE html>\n<html lang="en"')
    for tag in ("h1", "main", "header", "footer", "nav", "title"):
        assert len(tree.all(tag)) == 1, tag
    levels = [int(tag[1]) for tag, *_ in tree.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes, *_ in tree.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for attributes, _ in tree.all("a"):
        assert attributes["href"][0] == "#"
        assert attributes["href"][1:] in ids
    for _, attributes, *_ in tree.elements:
        for reference in (attributes.get("aria-labelledby"), attributes.get("for")):
            assert reference is None or reference in ids
    assert all("alt" in attributes for attributes, _ in tree.all("img"))


def test_it_is_used_with_a_keyboard(tree):
    labeled = {attributes["for"] for attributes, _ in tree.all("label")}
    for tag in ("input", "select"):
        found = tree.all(tag)
        assert found
        assert all(attributes["id"] in labeled for attributes, _ in found)
    assert all(text.strip() for _, text in tree.all("button"))
    assert all(attributes.get("type") in ("button", "reset") for attributes, _ in tree.all("button"))
    heads = [
        (around, attributes)
        for tag, attributes, around, _ in tree.elements
        if tag == "button" and attributes.get("class") == "sort"
    ]
    assert len(heads) == 4
    assert all(around[-1] == "th" for around, _ in heads)
    assert len([1 for attributes, _ in tree.all("th") if "aria-sort" in attributes]) == 1
    handlers = {name for _, attributes, *_ in tree.elements for name in attributes if name.startswith("on")}
    assert handlers == set()
    assert len(tree.all("dialog")) == 1, "the browser closes it with Escape"
    assert tree.all("details")


# --- safety


def test_texts_are_never_markup(page, tree):
    assert [attributes.get("type", "") for attributes, _ in tree.all("script")] == ["application/json", ""]
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert not any(attributes.get("src") == "x" for attributes, _ in tree.all("img"))
    assert "49" not in "".join(text for _, text in tree.all("title"))
    seen = "".join(text for _, text in tree.all("bdi"))
    for shown in (
        "</script><script>alert(1)</script>",
        "\\u202e",
        "\\u2066",
        "\\u001b[2J",
        "\\udcff",
        "{{ 7 * 7 }}",
        "打太极拳",
    ):
        assert shown in seen, shown
    assert not re.search("[\0-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    names = {HOSTILE.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066")}
    assert all(any(name in text for _, text in tree.all("option")) for name in names)


def test_data_in_a_script_is_escaped():
    value = {"a": "</script><!--\u2028\u2029&'\"\\", "b": [1, None, "\u202e"]}
    text = str(json_in_script(value))
    assert not set("<>&\u2028\u2029\u202e") & set(text)
    assert "\\u003c/script\\u003e" in text
    assert json.loads(text) == {**value, "b": [1, None, "\\u202e"]}


def test_nothing_is_fetched(page, tree):
    for tag, attributes, *_ in tree.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            value = attributes.get(name, "#")
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, name, value[:50])
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    [policy] = [each["content"] for each, _ in tree.all("meta", **{"http-equiv": "Content-Security-Policy"})]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in policy
    [program] = [text for attributes, text in tree.all("script") if "id" not in attributes]
    assert base64.b64encode(hashlib.sha256(program.encode()).digest()).decode() in policy
    assert "innerHTML" not in program


# --- pictures and room


def test_pictures_are_of_the_videos_that_are_left(tree):
    drawn = [
        "data-n" in attributes
        for tag, attributes, around, _ in tree.elements
        if tag == "img" or "data-n" in attributes
    ]
    cards = [i for i, is_card in enumerate(drawn) if is_card]
    with_picture = [n for n, i in enumerate(cards) if i + 1 < len(drawn) and not drawn[i + 1]]
    assert with_picture == list(range(6))
    notes = " ".join(text for _, text in tree.all("ul", **{"class": "notes"}))
    assert "36 videos have no picture" in notes
    assert "the file is gone" in notes


def test_it_is_made_without_any_video(world, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "features").mkdir()
    for path in (world / "features").iterdir():
        (bare / "features" / path.name).write_bytes(path.read_bytes())
    (bare / "vidclip.toml").write_bytes((world / "vidclip.toml").read_bytes())
    files = sorted(world.glob("*.mp4"))
    for path in files:
        path.rename(path.with_suffix(".away"))
    try:
        done = vidclip("report", "--device", "cpu", cwd=bare)
    finally:
        for path in files:
            path.with_suffix(".away").rename(path)
    assert done.returncode == 0, done.stderr
    tree = Tree((bare / "report.html").read_text(encoding="utf-8"))
    assert not tree.all("img")
    assert len([1 for attributes, _ in tree.all("span") if attributes.get("class") == "blank"]) >= 42
    assert not tree.all("select", id="scorer"), "there is one scorer, and nothing to choose"
    assert "No frames: the file is gone." in "".join(text for _, text in tree.all("p"))
    assert len(tree.all("article")) == 6


def test_files_that_have_changed_are_not_shown(world, tmp_path):
    cache = FeatureCache(world / "features")
    [strip, gone] = read_strips(cache, [0, 20])
    assert strip.shape == (4, 32, 32, 3)
    assert gone == NoPicture("the file is gone")
    path = Path(cache.videos[0].path)
    whole = path.read_bytes()
    try:
        path.write_bytes(whole + b"0")
        assert read_thumbnails(cache, [0]) == [NoPicture("the file has changed since it was read")]
    finally:
        path.write_bytes(whole)


def test_pictures_shrink_until_they_fit(rng):
    images = [rng.integers(0, 256, (96, 96, 3)).astype(np.uint8) for _ in range(30)]
    largest = sum(map(len, encode_within(images, 10**7)))
    for budget in (largest, largest // 2, largest // 5):
        uris = encode_within(images, budget)
        assert sum(map(len, uris)) <= budget
        assert all(uris)
    few = encode_within(images, 5_000)
    assert sum(map(len, few)) <= 5_000
    assert few[0]
    assert not few[-1]
    assert encode_within([], 100) == []


def test_it_stays_below_five_megabytes(computed, rng):
    _, page = computed
    many = 6_000
    repeat = np.arange(many) % 42
    page = replace(
        page,
        ids=tuple(f"{i}/{'long name ' * 20}.mp4" for i in range(many)),
        splits=("test",) * many,
        test=replace(page.test, indices=page.test.indices[repeat], targets=page.test.targets[repeat]),
        decisions=[
            Decisions(each.scorer, each.predicted[repeat], each.score[repeat], each.label_score[repeat])
            for each in page.decisions
        ],
    )
    noise = [rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(50)]
    chosen = gallery_videos(page)
    assert (page.decisions[0].predicted != page.targets)[chosen[:1000]].all(), "the wrong ones first"
    text = render_page(page, [noise[i % 50] for i in range(len(chosen))])
    assert len(text.encode()) <= MOST_BYTES
    assert "of the 6,000 videos" in text


def test_the_same_page_is_the_same_file(computed):
    _, page = computed
    assert render_page(page) == render_page(page)
    assert "no picture" not in render_page(page).split("<main", 1)[1], "none were asked for"


# --- which videos


def test_videos_that_are_asked_for(world):
    done = vidclip(
        "report",
        "--device",
        "cpu",
        "--video",
        "05.mp4",
        "--video",
        "07.mp4",
        "--output",
        "two.html",
        cwd=world,
    )
    assert done.returncode == 0, done.stderr
    articles = Tree((world / "two.html").read_text(encoding="utf-8")).all("h3")
    assert [text for _, text in articles] == ["05.mp4", "07.mp4"]
    done = vidclip("report", "--device", "cpu", "--videos", "0", "--output", "none.html", cwd=world)
    assert done.returncode == 0, done.stderr
    assert not Tree((world / "none.html").read_text(encoding="utf-8")).all("article")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "nothing"], "'nothing' is not in features"),
        (["--output", "page.txt"], "the name must end in .html or .htm"),
        (
            ["--words", "all", "--videos", "0"],
            "--words goes with --pool vcs, or --videos above 0 or --video alone",
        ),
        (["--split", "train"], "has test, not 'train'"),
    ],
)
def test_what_cannot_be_is_refused(world, arguments, message):
    done = vidclip("report", *arguments, cwd=world)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr


def test_a_video_that_is_not_tested_is_no_example(computed):
    cache, _ = computed
    plan = plan_zero_shot(cache, lexicon_from_labels(cache))
    plan = replace(plan, test=plan.test.take(np.arange(42) < 10))
    with pytest.raises(ValueError, match="is not among those that are tested"):
        compute_page(
            cache,
            lexicon_from_labels(cache),
            plan,
            [MeanScorer(np.eye(7, 32))],
            ScoringSettings(),
            examples=[20],
        )
