"""Write docs/classify_cube.ipynb and its picture from docs/xarray.md, so that they say the same.

`python docs/programs/notebook_of_page.py FOLDER`, where FOLDER has scene.tif and model.safetensors.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

DOCS = Path(__file__).parents[1]
PAGE, NOTEBOOK, PICTURE = (DOCS / f"{name}" for name in
                           ("xarray.md", "classify_cube.ipynb", "classify_cube.png"))  # fmt: skip
_FENCE = re.compile(r"```python\n(.*?)```\n", re.DOTALL)


def notebook_of(page: str) -> NotebookNode:
    """Return a page's prose and Python blocks as cells, without outputs.

    Paragraphs that link to the notebook or show its picture stay on the page.
    """
    cells = []
    for number, text in enumerate(_FENCE.split(page)):
        paragraphs = [p.strip() for p in re.sub(r"<!--.*?-->", "", text).split("\n\n")]
        prose = "\n\n".join(p for p in paragraphs if p and f"({NOTEBOOK.stem}." not in p)
        name = f"cell-{len(cells)}"
        if number % 2:
            cells.append(new_code_cell(text.strip(), id=name))
        elif prose:
            cells.append(new_markdown_cell(prose, id=name))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run a notebook in a folder; an error in a cell is raised."""
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def figures_of(notebook: NotebookNode) -> dict[str, bytes]:
    """Return the figures of a notebook that has run as PNG, each by the code of its cell."""
    return {
        cell.source: base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    }


def main() -> None:
    """Write both."""
    page = PAGE.read_text(encoding="utf-8")
    nbformat.write(notebook_of(page), NOTEBOOK)
    figures = figures_of(run(notebook_of(page), Path(sys.argv[1])))
    (picture,) = (figure for code, figure in figures.items() if "land cover" in code)
    PICTURE.write_bytes(picture)


if __name__ == "__main__":
    main()
