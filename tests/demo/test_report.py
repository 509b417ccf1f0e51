"""The report writes what it measured, where the document has a place for it."""

from pathlib import Path

import pytest

from vidclip.demo.report import SECTIONS, fill


def test_tables_are_put_in_their_places_again_and_again():
    document = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n"
    filled = fill(document, {"one": "| 1 |", "two": "| 2 |"})
    assert filled == "a\n<!-- one -->\n| 1 |\n<!-- /one -->\nb\n<!-- two -->\n| 2 |\n<!-- /two -->\n"
    assert fill(filled, {"one": "| 1 |", "two": "| 2 |"}) == filled


def test_a_table_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="no place for the table 'three'"):
        fill("<!-- one --><!-- /one -->", {"three": ""})


def test_the_document_has_a_place_for_every_table():
    document = (Path(__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")
    assert fill(document, dict.fromkeys(["temperatures", *SECTIONS], "x")).count("\nx\n") == len(SECTIONS) + 1
