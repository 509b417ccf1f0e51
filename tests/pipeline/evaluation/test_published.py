"""The papers' figures: the file, what is found in it, and what docs/recipes.md quotes of it."""

import json
import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest

from vidclip.lexicons import load_lexicon
from vidclip.pipeline.evaluation import PROTOCOLS as ZERO_SHOT_PROTOCOLS
from vidclip.pipeline.evaluation.published import (
    DATASETS,
    PAPERS,
    PROTOCOLS,
    PublishedError,
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
    ("x-clip", "3", "X-CLIP", "ViT-B/16", "hmdb51", "splits", 0, "top1", 44.6, 5.2),
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


def test_the_evaluations_own_protocols_are_known():
    assert set(ZERO_SHOT_PROTOCOLS) <= set(PROTOCOLS)


@pytest.mark.parametrize("row", READ_AGAIN, ids=lambda row: f"{row[0]} {row[1]} {row[-2]}")
def test_a_second_reading_of_the_papers_agrees(row):
    paper, table, method, backbone, dataset, protocol, shots, metric, value, spread = row
    found = [
        figure
        for figure in published_for(paper=paper, dataset=dataset, protocol=protocol, metric=metric)
        if (figure.table, figure.shots) == (table, shots)
        and method in figure.method
        and (backbone is None or figure.backbone == backbone)
        and figure.views != "multiple"
    ]
    assert [(figure.value, figure.spread) for figure in found] == [(value, spread)]


# What is found


def test_everything_asked_for_must_agree(figures):
    (figure,) = published_for(paper="bike", dataset="ucf101", protocol="half-classes", metric="top1")
    assert (figure.value, figure.spread, figure.frames, figure.kind) == (86.6, 3.4, 8, "fine-tuned")
    assert figure.source == "Wu et al. 2023, BIKE, Table 5, arXiv version"
    assert published_for() == figures


def test_no_shots_asked_for_gives_every_number_of_them():
    found = published_for(paper="x-clip", dataset="hmdb51", protocol="few-shot")
    assert {figure.shots for figure in found} == {2, 4, 8, 16}
    two = published_for(paper="x-clip", dataset="hmdb51", protocol="few-shot", shots=2)
    assert [(figure.method, figure.value) for figure in two] == [("X-CLIP-B/16", 53.0), ("X-Florence", 51.6)]


def test_zero_shots_are_asked_for_like_any_other():
    found = published_for(paper="text4vis", dataset="kinetics400", shots=0)
    assert {figure.value for figure in found} == {61.0, 54.2, 0.2}


def test_what_frozen_features_can_be_put_beside():
    found = published_for(paper="text4vis", kind="zero-shot", dataset="ucf101")
    assert [(figure.table, figure.value) for figure in found] == [("3", 71.9)]
    assert published_for(paper="x-clip", kind="zero-shot") == []


def test_a_dataset_without_figures_gives_none():
    assert "something-something-v1" in DATASETS
    assert published_for(dataset="something-something-v1") == []


def test_figures_of_ones_own_are_searched_too(figures):
    assert published_for(paper="bike", figures=figures[-1:]) == []
    assert published_for(paper="temporal-prompts", figures=figures[-1:]) == figures[-1:]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"paper": "BIKE"},
            "no paper of the name 'BIKE'; known are bike, text4vis, x-clip, temporal-prompts",
        ),
        ({"dataset": "ucf"}, "no dataset of the name 'ucf'; known are .*ucf101, hmdb51"),
        (
            {"protocol": "zero-shot"},
            "no protocol of the name 'zero-shot'; known are full-classes, half-classes",
        ),
        ({"metric": "mAP"}, "no metric of the name 'mAP'; known are top1, top5, mean_class, map"),
        ({"kind": "frozen"}, "no kind of the name 'frozen'; known are zero-shot, head-only, fine-tuned"),
        ({"shots": -1}, "shots must not be negative, got -1"),
    ],
)
def test_unknown_names_are_errors_that_name_the_known(asked, message):
    with pytest.raises(ValueError, match=message):
        published_for(**asked)


# Other files


def good():
    return {
        "paper": "bike", "table": "5", "method": "BIKE", "backbone": None, "frames": 8, "views": None,
        "dataset": "ucf101", "protocol": "full-classes", "shots": 0, "metric": "top1", "value": 80.8,
        "spread": None, "kind": "fine-tuned", "source": "Wu et al. 2023, BIKE, Table 5",
    }  # fmt: skip


def write(folder, *rows, **head):
    path = folder / "figures.json"
    path.write_text(json.dumps({"format": "vidclip-published", "version": 1, "figures": rows, **head}))
    return path


def test_a_file_of_ones_own(tmp_path):
    (figure,) = load_published(write(tmp_path, good()))
    assert figure == PublishedFigure(**good())
    assert figure.note == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper": "clip"}, "figure 2: no paper of the name 'clip'"),
        ({"value": 180.8}, "figure 2: value is a percentage, got 180.8"),
        ({"value": "80.8"}, "figure 2: value cannot be '80.8'"),
        ({"value": None}, "figure 2: value cannot be None"),
        ({"value": float("nan")}, "figure 2: value is a percentage, got nan"),
        ({"spread": -1.0}, "figure 2: spread is in points of a percentage, got -1.0"),
        ({"shots": True}, "figure 2: shots cannot be True"),
        ({"shots": -1}, "figure 2: shots must not be negative, got -1"),
        ({"venue": "CVPR"}, "figure 2: unknown field 'venue'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, message):
    path = write(tmp_path, good(), good() | change)
    with pytest.raises(PublishedError, match=message):
        load_published(path)


def test_a_missing_field_is_named(tmp_path):
    row = good()
    del row["source"]
    with pytest.raises(PublishedError, match="figure 1: no field 'source'"):
        load_published(write(tmp_path, row))


def test_a_row_must_be_an_object(tmp_path):
    with pytest.raises(PublishedError, match="figure 1: not an object"):
        load_published(write(tmp_path, 80.8))


def test_files_of_another_form(tmp_path):
    with pytest.raises(PublishedError, match="its format is not 'vidclip-published'"):
        load_published(write(tmp_path, format="figures"))
    with pytest.raises(PublishedError, match="is of version 2; this vidclip reads 1"):
        load_published(write(tmp_path, version=2))
    path = write(tmp_path, good())
    path.write_text(json.dumps({"format": "vidclip-published", "version": 1}))
    with pytest.raises(PublishedError, match="has no list of figures"):
        load_published(path)
    path.write_text("80.8,")
    with pytest.raises(PublishedError, match="is not JSON"):
        load_published(path)


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
