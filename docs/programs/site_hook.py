"""What the site adds to the pages: the commands' options, and the repository's files they link to.

Pages link to files of the repository by relative paths, as a code host shows them. Each such file
becomes a page of the site, so that all links work offline. MkDocs calls the functions below.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

COMMANDS_MARK = "<!-- all commands and their options -->"
FIGURES_MARK = "<!-- the figures of README.md -->"
_AWAY = "repository"
_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_BRACES = str.maketrans("", "", "{}")  # of typer, around an argument that must be given
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".csv": "text"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page links to, and that those link to."""
    texts = {_source(file): file.content_string for file in files.documentation_pages()}
    while texts:
        found = {path for source, text in texts.items() for path in _foreign(source, text)}
        new = {path for path in found if files.get_file_from_path(_page_of(path)) is None}
        for path in new:
            content = _as_page(path)
            files.append(File.generated(config, _page_of(path), content=content))
        texts = {
            path: (_ROOT / path).read_text(encoding="utf-8") for path in new if path.endswith(".md")
        }
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to these pages, and fill in what is written elsewhere already."""
    for mark, made in ((COMMANDS_MARK, command_reference), (FIGURES_MARK, figures)):
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    source = _source(page.file)
    here = posixpath.dirname(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        path = _target(source, match[1])
        if path is None:
            return match[0]
        inside = path.removeprefix("docs/") if path.startswith("docs/") else _page_of(path)
        return posixpath.relpath(inside, here or ".") + match[2]

    kept = _FENCED.findall(markdown)
    parts = _FENCED.split(markdown)
    led = [_LINK.sub(lead, part) for part in parts]
    return "".join(text for pair in zip(led, [*kept, ""], strict=True) for text in pair)


def figures() -> str:
    """Return the table of figures in README.md."""
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## How good, how fast\n")[2]
    table = re.search(r"^\| what.*?(?=\n\n)", section, re.DOTALL | re.MULTILINE)
    if table is None:
        raise PluginError("README.md has no table of figures under 'How good, how fast'")
    return table[0]


def command_reference() -> str:
    """Return all commands with arguments and options, from the command line itself, as Markdown."""
    from hsi_pipeline.cli import app

    group = typer.main.get_command(app)
    return "\n".join(_command_lines(group, typer.Context(group, info_name=group.name)))


def _command_lines(command: typer.core.TyperGroup, context: typer.Context) -> list[str]:
    lines = []
    for name in command.list_commands(context):  # in the order of the help
        child = command.commands[name]
        inner = typer.Context(child, info_name=name, parent=context)
        if hasattr(child, "commands"):
            lines += _command_lines(child, inner)
            continue
        usage = " ".join(child.collect_usage_pieces(inner)).translate(_BRACES)
        lines += [f"## {inner.command_path.removeprefix('hsi-pipeline ')}", "", child.help, ""]
        lines += ["```text", f"{inner.command_path} {usage}", "```", ""]
        lines += ["| argument or option | what it is |", "| --- | --- |", *_rows(child, inner), ""]
    return lines


def _rows(command: typer.core.TyperCommand, context: typer.Context) -> list[str]:
    """Return a line of a table for each argument and option."""
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    rows = []
    for name, text in (record for record in records if record is not None):
        name, text = (" ".join(part.split()).replace("|", "\\|") for part in (name, text))
        rows.append(f"| `{name}` | {text.replace('<', '&lt;')} |")
    return rows


def _source(file: File) -> str:
    """Return where a page's text lies in the repository."""
    inside = file.src_uri.removeprefix(f"{_AWAY}/")
    return inside if inside != file.src_uri else f"docs/{file.src_uri}"


def _target(source: str, link: str) -> str | None:
    """Return what a relative link means, as a path in the repository; None: leave it as it is.

    Links from page to page inside docs/ are MkDocs's own.
    """
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    both_inside = path.startswith("docs/") and source.startswith("docs/")
    return None if both_inside or not (_ROOT / path).is_file() else path


def _foreign(source: str, text: str) -> set[str]:
    links = (match[0] for match in _LINK.findall(_FENCED.sub("", text)))
    found = {_target(source, link) for link in links}
    return {path for path in found if path is not None and not path.startswith("docs/")}


def _page_of(path: str) -> str:
    """Return the name of the page that shows a file: Markdown as it is, others as a listing."""
    return f"{_AWAY}/{path}" if path.endswith(".md") else f"{_AWAY}/{path}.md"


def _as_page(path: str) -> str:
    text = (_ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = _LANGUAGES.get(posixpath.splitext(path)[1], "text")
    if posixpath.basename(path).endswith("Dockerfile"):
        language = "dockerfile"
    return f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"
