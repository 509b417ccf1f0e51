"""The papers' figures: the file, what is found in it, and what docs/recipes.md quotes of it."""

import json
import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from vidclip.lexicons import load_lexicon
from vidclip.pipeline.choices import PAPERS
from vidclip.pipeline.choices import PROTOCOLS as ZERO_SHOT_PROTOCOLS
from vidclip.pipeline.evaluation import (
    DATASETS,
    METRICS,
    PublishedFigure,
    load_published,
    published_for,
)

RECIPES = Path(__file__).parents[3] / "docs" / "recipes.md"

# Read in the papers' texts a second time, without looking at published.json.
# paper, table, part of the method, backbone, dataset, protocol, shots, metric: value, spread
READ_AGAIN = [
    ("bike", "5", "BIKE", "ViT-L/14", "ucf101", "half-classes", 0, "top1", 86.6, 3.4),
    ("bike", "5", "BIKE", "ViT-L/14", "hmdb51", "full-classes", 0, "top1", 52.8, None),
    ("bike", "5", "BIKE", "ViT-L/14", "activitynet", "half-classes", 0, "top1", 86.2, 1.0),
    ("bike", "5", "BIKE", "ViT-L/14", "kinetics600", "kinetics600", 0, "top1", 68.5, 1.2),
    (
        "bike",
        "6b",
        "sentence, recognition by s",
        "ViT-B/32",
        "kinetics400",
        "general",
        None,
        "top1",
        74.7,
        None,
    ),
    ("bike", "6c", "no prompt", None, "kinetics400", "full-classes", 0, "top1", 46.2, None),
    ("bike", "6d", "alone, 7", None, "kinetics400", "full-classes", 0, "top1", 57.1, None),
    ("bike", "6d", "video and attributes, 7", "ViT-B/32", "kinetics400", "general", None, "top1", 79.7, None),
    ("bike", "6e", "alone, trained", None, "kinetics400", "general", None, "top1", 69.6, None),
    ("bike", "6f", "baseline, video and", "ViT-B/32", "kinetics400", "general", None, "top1", 79.2, None),
    ("bike", "6g", "ImageNet", "ViT-B/32", "kinetics400", "general", None, "top1", 80.3, None),
    ("bike", "6i", "baseline", "ViT-L/14", "kinetics400", "general", None, "top1", 85.2, None),
    ("bike", "A.3", "BIKE", "ViT-L/14-336px", "ucf101", "general", None, "mean_class", 98.6, None),
    ("bike", "A.3", "BIKE", "ViT-L/14-336px", "hmdb51", "general", None, "mean_class", 83.1, None),
    ("bike", "Section 3.2", "BIKE", "ViT-L/14", "charades", "multi-label", None, "map", 50.4, None),
    ("text4vis", "2", "Text4Vis", "ViT-L/14-336px", "activitynet", "multi-label", None, "map", 96.9, None),
    ("text4vis", "3", "TAP", "ViT-L/14", "hmdb51", "full-classes", 0, "top1", 53.8, None),
    ("text4vis", "3", "TAP", "ViT-L/14", "activitynet", "few-shot", 1, "top1", 89.0, None),
    ("text4vis", "3", "TAP", "ViT-L/14", "kinetics400", "few-shot", 2, "top1", 78.2, None),
    ("text4vis", "3", "TAP", "ViT-L/14", "ucf101", "general", None, "top1", 96.9, None),
    ("text4vis", "4", "Text4Vis", None, "hmdb51", "half-classes", 0, "top1", 58.1, 5.7),
    ("text4vis", "4", "Text4Vis", None, "kinetics600", "kinetics600", 0, "top1", 68.9, 1.0),
    ("text4vis", "5", "Text4Vis", "ViT-L/14", "ucf101", "general", None, "mean_class", 98.1, None),
    ("text4vis", "6", "LDA", "ViT-B/16", "kinetics400", "general", None, "top1", 80.8, None),
    ("text4vis", "7", "vision-text", "ViT-B/16", "kinetics400", "full-classes", 0, "top1", 54.2, None),
    ("text4vis", "7", "vision-only", "ViT-B/16", "kinetics400", "general", None, "top1", 75.27, None),
    ("text4vis", "8", "T1D", "ResNet-50", "kinetics400", "general", None, "top5", 88.5, None),
    ("text4vis", "A.4", "several", "ViT-B/16", "kinetics400", "general", None, "top1", 80.9, None),
    ("text4vis", "1", "Text4Vis", "ViT-L/14-336px", "kinetics400", "general", None, "top1", 87.8, None),
    ("text4vis", "A.1", "Text4Vis", None, "imagenet1k", "few-shot", 3, "top1", 73.1, None),
    ("x-clip", "1", "X-CLIP-L/14", "ViT-L/14-336px", "kinetics400", "general", None, "top5", 97.4, None),
    ("x-clip", "1", "X-CLIP-L/14", "ViT-L/14", "kinetics400", "general", None, "top1", 87.1, None),
    ("x-clip", "2", "X-CLIP-L/14", "ViT-L/14", "kinetics600", "general", None, "top1", 88.3, None),
    ("x-clip", "3", "X-CLIP", "ViT-B/16", "hmdb51", "splits", 0, "top1", 44.6, 5.2),
    ("x-clip", "6", "prompts", "ViT-B/16", "kinetics400", "general", None, "top1", 82.3, None),
    ("x-clip", "7", "neither", "ViT-B/16", "ucf101", "full-classes", 0, "top1", 64.2, None),
    ("x-clip", "8", "without text", "ViT-B/16", "hmdb51", "few-shot", 2, "top1", 32.0, None),
    ("x-clip", "9", "ensemble", "ViT-B/16", "ucf101", "full-classes", 0, "top1", 63.9, None),
    ("x-clip", "10", "ImageNet-1k", "ViT-B/16", "kinetics400", "general", None, "top5", 90.2, None),
    ("temporal-prompts", "3", "C3D", "ViT-B/16", "ucf101", "general", None, "top5", 98.2, None),
    ("temporal-prompts", "4", "R(2+1)D, no", "ViT-B/16", "hmdb51", "general", None, "top1", 70.0, None),
    ("temporal-prompts", "5", "the video is", "ViT-B/16", "hmdb51", "general", None, "top5", 93.6, None),
    ("temporal-prompts", "7", "TSM", None, "ucf101", "few-shot", 8, "top1", 64.4, None),
    ("temporal-prompts", "7", "X-Florence", None, "ucf101", "few-shot", 16, "top1", 94.8, None),
    ("temporal-prompts", "8", "temporal prompts", "ViT-B/16", "hmdb51", "general", None, "top1", 73.8, None),
    (
        "temporal-prompts",
        "9",
        "Side4Video",
        "ViT-B/16",
        "something-something-v1",
        "general",
        None,
        "top5",
        86.0,
        None,
    ),
    ("x-clip", "S2", "Joint", "ViT-B/16", "hmdb51", "few-shot", 2, "top1", 41.3, None),
    ("x-clip", "S4", "mean", "ViT-B/32", "kinetics400", "general", None, "top5", 68.5, None),
    ("x-clip", "4", "X-CLIP", "ViT-B/16", "kinetics600", "kinetics600", 0, "top5", 86.1, 0.8),
    ("x-clip", "5", "X-CLIP", "ViT-B/16", "ucf101", "few-shot", 8, "top1", 88.3, None),
    ("x-clip", "5", "X-Florence", "Florence CoSwin-H", "hmdb51", "few-shot", 16, "top1", 64.2, None),
    ("temporal-prompts", "7", "baseline", "ViT-B/16", "hmdb51", "few-shot", 2, "top1", 49.6, None),
    ("temporal-prompts", "7", "baseline", "ViT-B/16", "ucf101", "few-shot", 16, "top1", 80.2, None),
]


@pytest.fixture(scope="module")
def figures():
    return load_published()


# The file


def test_every_paper_has_figures_and_a_citation(figures):
    assert {figure.paper for figure in figures} == set(PAPERS)
    content = json.loads(
        (files("vidclip.pipeline.evaluation") / "published.json").read_text(encoding="utf-8")
    )
    assert set(content["papers"]) == set(PAPERS)
    for paper in content["papers"].values():
        assert paper["citation"]
        assert paper["read"]
    assert list(content["fields"]) == list(content["figures"][0])
    assert set(content["fields"]) == {field.name for field in fields(PublishedFigure)}


def test_every_figure_says_where_it_stands(figures):
    for figure in figures:
        where = figure.table if figure.table.startswith("Section") else f"Table {figure.table}"
        assert re.search(rf"\b{re.escape(where)}(,|$)", figure.source), figure
        assert load_lexicon(figure.dataset).name == figure.dataset


def test_no_figure_stands_twice(figures):
    keys = [tuple(vars(figure).values())[:10] for figure in figures]
    assert len(set(keys)) == len(keys)


def test_shots_protocol_and_kind_agree(figures):
    for figure in figures:
        zero_shot = figure.protocol in ZERO_SHOT_PROTOCOLS
        assert zero_shot == (figure.shots == 0), figure
        assert (figure.protocol == "few-shot") == (figure.shots not in (0, None)), figure
        assert (figure.protocol == "multi-label") == (figure.metric == "map"), figure
        if figure.kind == "zero-shot":
            assert zero_shot, figure


def test_one_figure_a_line():
    lines = (files("vidclip.pipeline.evaluation") / "published.json").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('    {"paper"') for line in lines) == len(load_published())


def test_every_figure_can_be_what_it_says(figures):
    """The file is written by hand."""
    for figure in figures:
        assert figure.protocol in (*ZERO_SHOT_PROTOCOLS, "multi-label", "general", "few-shot")
        assert figure.dataset in DATASETS
        assert figure.metric in METRICS
        assert figure.kind in ("zero-shot", "head-only", "fine-tuned")
        assert 0 <= figure.value <= 100
        assert figure.spread is None or 0 <= figure.spread < 20
        assert figure.shots is None or (isinstance(figure.shots, int) and figure.shots >= 0)


@pytest.mark.parametrize("row", READ_AGAIN, ids=lambda row: f"{row[0]} {row[1]} {row[-2]}")
def test_a_second_reading_of_the_papers_agrees(row):
    paper, table, method, backbone, dataset, protocol, shots, metric, value, spread = row
    found = [
        figure
        for figure in published_for([paper], dataset, protocol, [shots])
        if (figure.table, figure.shots, figure.metric) == (table, shots, metric)
        and method in figure.method
        and (backbone is None or figure.backbone == backbone)
        and figure.views != "multiple"
    ]
    assert [(figure.value, figure.spread) for figure in found] == [(value, spread)]


def differences(table):
    """The difference of two figures of X-CLIP as the paper prints it, beside that of the file."""
    found = {
        (f.method, f.frames, f.views, f.dataset): f.value
        for f in load_published()
        if f.paper == "x-clip" and f.table == table and f.metric == "top1"
    }
    k400, hmdb51, ucf101 = "kinetics400", "hmdb51", "ucf101"
    if table == "6":
        base, *others = found.values()
        return [(other - base, printed) for other, printed in zip(others, (1.2, 1.7, 2.3, 3.8), strict=True)]
    if table == "11":
        pairs = zip(*(list(found.values())[start::2] for start in (0, 1)), strict=True)
        return [
            (multi - one, printed)
            for (multi, one), printed in zip(pairs, (4.1, 1.3, 4.9, 1.1, 4.0, 0.2, 5.1, 0.2), strict=True)
        ]
    rows = {
        "8": [("with text", "without text", k400, 0.7), ("with text", "without text", hmdb51, 18.8)],
        "9": [
            ("video-specific prompts", "learned vectors, 16", k400, 0.3),
            ("video-specific prompts", "learned vectors, 16", hmdb51, 0.9),
            ("video-specific prompts", "ensemble of 16 templates", ucf101, 6.1),
        ],
    }[table]
    return [
        (found[more, 8, "1x1", data] - found[less, 8, "1x1", data], printed)
        for more, less, data, printed in rows
    ]


@pytest.mark.parametrize("table", ["6", "8", "9", "11"])
def test_differences_that_x_clip_prints_fit_its_figures(table):
    for found, printed in differences(table):
        assert found == pytest.approx(printed, abs=1e-6)


# What is found


def test_everything_asked_for_must_agree():
    found = published_for(["bike"], "ucf101", "half-classes")
    (figure,) = [figure for figure in found if figure.metric == "top1"]
    assert (figure.value, figure.spread, figure.frames, figure.kind) == (86.6, 3.4, 8, "fine-tuned")
    assert figure.source == "Wu et al. 2023, BIKE, Table 5, arXiv version"


def test_few_shot_figures_are_those_of_the_shots():
    two = [figure for figure in published_for(["x-clip"], "hmdb51", "few-shot", [2]) if figure.table == "5"]
    assert [(figure.method, figure.value) for figure in two] == [("X-CLIP-B/16", 53.0), ("X-Florence", 51.6)]
    assert {figure.shots for figure in published_for(["x-clip"], "hmdb51", "few-shot", [2, 16, None])} == {
        2,
        16,
    }
    assert published_for(["x-clip"], "hmdb51", "few-shot") == []


def test_papers_stand_in_the_order_asked_for():
    found = published_for(["text4vis", "bike", "text4vis"], "ucf101", "half-classes")
    assert list(dict.fromkeys(figure.paper for figure in found)) == ["text4vis", "bike"]


def test_a_dataset_without_figures_gives_none():
    assert "activitynet" in DATASETS
    assert published_for(PAPERS, "activitynet", "splits") == []


@pytest.mark.parametrize(("paper", "dataset"), [("BIKE", "ucf101"), ("bike", "ucf")])
def test_unknown_names_are_errors_that_name_the_known(paper, dataset):
    with pytest.raises(
        ValueError, match=r"there is no '(BIKE' among bike, text4vis|ucf' among .*ucf101, hmdb51)"
    ):
        published_for([paper], dataset, "general")


# docs/recipes.md

SECTIONS = {
    "## BIKE": "bike",
    "## Text4Vis": "text4vis",
    "## X-CLIP": "x-clip",
    "## Temporal prompts": "temporal-prompts",
}
QUOTED = (
    "table",
    "method",
    "backbone",
    "frames",
    "views",
    "dataset",
    "protocol",
    "shots",
    "metric",
    "figure",
    "kind",
)


def quoted_rows(text):
    """(paper, cells by column) of each row of the tables of figures."""
    paper, columns = None, None
    for line in text.splitlines():
        if line.startswith("## "):
            paper = SECTIONS.get(line)
        cells = tuple(cell.strip() for cell in line.strip("|").split("|")) if line.startswith("|") else None
        if cells is None or set(line) <= set("|-"):
            columns = columns if cells else None
        elif columns is None:
            columns = cells
        elif columns == QUOTED:
            yield paper, dict(zip(columns, cells, strict=True))


def as_quoted(figure):
    spread = "" if figure.spread is None else f" ± {figure.spread}"
    return {
        "table": figure.table,
        "method": figure.method,
        "backbone": figure.backbone or "?",
        "frames": str(figure.frames or "?"),
        "views": figure.views or "?",
        "dataset": figure.dataset,
        "protocol": figure.protocol,
        "shots": "all" if figure.shots is None else str(figure.shots),
        "metric": figure.metric,
        "figure": f"{figure.value}{spread}",
        "kind": figure.kind,
    }


def test_every_row_of_the_recipes_is_published(figures):
    published = [(figure.paper, as_quoted(figure)) for figure in figures]
    rows = list(quoted_rows(RECIPES.read_text(encoding="utf-8")))
    assert {paper for paper, _ in rows} == set(PAPERS)
    for row in rows:
        assert row in published


def test_a_changed_row_of_the_recipes_would_be_found(figures):
    text = RECIPES.read_text(encoding="utf-8").replace("| 86.6 ± 3.4 |", "| 86.7 ± 3.4 |")
    published = [(figure.paper, as_quoted(figure)) for figure in figures]
    assert sum(row not in published for row in quoted_rows(text)) == 1


def test_every_figure_in_the_prose_of_the_recipes_is_published(figures):
    text = re.sub(r"^```.*?^```", "", RECIPES.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    prose = re.sub(r"`[^`]*`", "", prose)
    quoted = {float(number) for number in re.findall(r"(?<![\w.])\d{1,3}\.\d{1,2}(?![\w.]?\w)", prose)}
    assert 71.9 in quoted
    assert quoted <= {figure.value for figure in figures}


def test_links_of_the_recipes_lead_somewhere():
    text = RECIPES.read_text(encoding="utf-8")
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.M
    )
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(set(anchors)) == len(anchors)
    for target in re.findall(r"\]\(#([^)]*)\)", text):
        assert target in anchors
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (RECIPES.parent / target).exists()
