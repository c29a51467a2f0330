"""docs/cache-rfc.md: nothing that the RFCs ask for is left out, and each test that it names is there."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "cache-rfc.md"

# Every word of BCP 14 in the order of the text, but for the sections that explain these words.
ASKED = {
    "RFC 9111": {
        "1": "MAY",
        "1.2.2": "MUST",
        "2": "OPTIONAL",
        "3": "MUST NOT",
        "3.1": "MUST, MAY, MAY, MUST NOT, MAY, MUST NOT",
        "3.2": "MUST, MAY, SHOULD, MAY",
        "3.3": "MAY, MAY, MUST NOT, MAY, MUST NOT, MUST NOT",
        "3.4": "MAY, MUST",
        "3.5": "MUST NOT",
        "4": "MUST NOT, MUST, MUST, MUST, MUST",
        "4.1": "MUST NOT, MAY, SHOULD",
        "4.2": "SHOULD, MUST, MUST NOT, SHOULD",
        "4.2.2": "MAY, MUST NOT",
        "4.2.3": "MUST, MAY",
        "4.2.4": "MUST NOT, MUST NOT",
        "4.3.1": "MUST, SHOULD, MAY",
        "4.3.2": "SHOULD, MUST NOT, SHOULD, MAY, MUST NOT, MUST",
        "4.3.3": "MUST, MAY",
        "4.3.4": "MUST NOT, MUST",
        "4.3.5": "SHOULD, SHOULD, SHOULD, MUST",
        "4.4": "MUST, MAY, MUST NOT",
        "5.1": "SHOULD, SHOULD",
        "5.2": "MUST",
        "5.2.1": "MAY",
        "5.2.1.1": "MUST NOT",
        "5.2.1.2": "MUST NOT",
        "5.2.1.3": "MUST NOT",
        "5.2.1.5": "MUST NOT, MUST NOT, MUST NOT, MUST",
        "5.2.1.7": "SHOULD",
        "5.2.2": "MUST",
        "5.2.2.1": "MUST NOT",
        "5.2.2.2": "MUST NOT, MUST NOT, MUST, SHOULD",
        "5.2.2.3": "SHOULD, SHOULD",
        "5.2.2.4": "MUST NOT, MAY, SHOULD NOT",
        "5.2.2.5": "MUST NOT, MUST NOT, MUST NOT, MUST NOT, MUST",
        "5.2.2.6": "MUST NOT",
        "5.2.2.7": "MUST NOT, MAY, MUST NOT, MAY, SHOULD NOT",
        "5.2.2.8": "MUST NOT",
        "5.2.2.9": "MAY",
        "5.2.2.10": "MUST NOT, MUST NOT",
        "5.2.3": "MUST",
        "5.2.4": "MUST",
        "5.3": "MUST, MUST, MUST, MUST NOT",
    },
    "RFC 5861": {"3": "MAY, SHOULD, SHOULD NOT", "4": "MAY, SHOULD NOT, SHOULD"},
    "RFC 9211": {"2": "SHOULD NOT, SHOULD, MUST, OPTIONAL", "2.2": "SHOULD"},
    "RFC 9213": {
        "2.1": "MUST NOT, MUST, SHOULD NOT, MUST",
        "2.2": "MUST, MUST, MUST NOT, MUST, MUST, SHOULD",
        "2.4": "MUST NOT",
        "3": "MAY",
    },
}
LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "OPTIONAL", "·"}


@dataclass(frozen=True)
class Row:
    rfc: str
    section: str
    level: str
    asked: str
    done: str
    shown: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        return re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", self.shown)


def rows_of(page: Path) -> list[Row]:
    found, rfc = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## (RFC \d+)", line):
            rfc = heading[1]
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "§":
            found.append(Row(rfc, *cells))
    return found


ROWS = rows_of(PAGE)


@cache
def functions_of(name: str) -> set[str]:
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_page_has_its_rows() -> None:
    assert {row.rfc for row in ROWS} == {*ASKED, "RFC 9110"}
    assert {row.level for row in ROWS} <= LEVELS


@pytest.mark.parametrize("rfc", ASKED)
def test_nothing_that_is_asked_for_is_left_out(rfc: str) -> None:
    said: dict[str, list[str]] = {}
    for row in ROWS:
        if row.rfc == rfc and row.level != "·":
            said.setdefault(row.section, []).append(row.level)
    assert {section: ", ".join(levels) for section, levels in said.items()} == ASKED[rfc]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rfc}-{row.section}-{row.level}-{row.asked}"[:60])
def test_each_row_names_tests_that_are_there_or_says_why_there_is_none(row: Row) -> None:
    assert row.asked
    assert row.done
    if not row.tests:
        assert re.fullmatch(r"\*None\*: .{10,}\.", row.shown)
        return
    assert re.sub(r"`[a-z_/]+\.py::test_\w+`", "", row.shown).strip(", ") == ""
    for file, name in row.tests:
        assert name in functions_of(file), f"{file} has no {name}"
