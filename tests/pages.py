"""The pages of the documentation, their code blocks, and what comments before a block say of it.

<!-- file: NAME -->               the block is written to that file, so that later ones use it
<!-- tested by tests/test_X.py -->  that test runs it, and names the page; before the heading of
                                  a page, it runs all blocks of the page
<!-- not run: REASON -->          nothing here can run it; its syntax and options are checked
<!-- output -->                   a text block that may look like commands
<!-- all keys of: CLASS -->       a workflow with all keys of that class of hsi_pipeline.config
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MARKS = ("file", "tested by", "not run", "output", "all keys of")
_COMMENT = re.compile(rf"\s*<!-- *({'|'.join(_MARKS)}):? *(.*?) *-->\s*$")
_FENCE = re.compile(r"(\s*)(`{3,}|~{3,})\s*([\w+-]*)(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int  # of its opening fence, from 1
    language: str
    text: str
    marks: dict

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def all_pages():
    """Return README.md and the pages of docs/, as paths."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page):
    """Return the blocks of a page in order; a fence that is not closed is an error."""
    blocks, inside, marks = [], None, {}
    tested = page_test(page)
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = _FENCE.match(line)
        if inside is not None:
            indent, mark, language, start, text = inside
            if fence and fence[2].startswith(mark) and not fence[3]:
                whole = {**({"tested by": tested} if tested else {}), **marks}
                content = "".join(f"{one.removeprefix(indent)}\n" for one in text)
                blocks.append(Block(page, start, language, content, whole))
                inside, marks = None, {}
            else:
                text.append(line)
        elif fence:
            inside = (fence[1], fence[2], fence[3], number, [])
        elif comment := _COMMENT.match(line):
            marks[comment[1]] = comment[2]
        elif line.strip():
            marks = {}
    assert inside is None, f"{page}: the fence of line {inside[3]} is not closed"
    return blocks


def page_test(page):
    """Return the test that runs all blocks of a page, as its first line names it, or None."""
    first = page.read_text().lstrip().partition("\n")[0]
    comment = _COMMENT.match(first)
    return comment[2] if comment and comment[1] == "tested by" else None


def prose(page):
    """Return the text of a page without its fenced blocks."""
    kept, fence = [], None
    for line in page.read_text().splitlines():
        found = _FENCE.match(line)
        if fence is None and found:
            fence = found[2]
        elif fence is not None and found and found[2].startswith(fence) and not found[3]:
            fence = None
        elif fence is None:
            kept.append(line)
    return "\n".join(kept)
