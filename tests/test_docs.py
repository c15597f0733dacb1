"""The documentation site: built without warnings, readable without network, never stale."""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
from chromium import chromium, complaints_of, requests_of
from pages import ROOT, all_pages, prose
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from hsi_pipeline import cli as command_line

DOCS = ROOT / "docs"
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_ASSETS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"),
           ("source", "src"), ("video", "src"), ("object", "data")}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the site, built as `make docs` builds it, but to another place."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    said = built.stdout + built.stderr
    assert built.returncode == 0, said
    assert "WARNING" not in said, said
    return folder


class _Page(HTMLParser):
    """Ids and links of a built page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.assets, self.images = set(), [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)
        self.assets += [found[name] for of, name in _ASSETS if of == tag and found.get(name)]


@pytest.fixture(scope="module")
def built(site):
    """Return each HTML file of the site, parsed."""
    return {path: _Page(path) for path in site.rglob("*.html")}


def test_make_docs_builds_the_same_into_an_ignored_folder():
    asked = subprocess.run(
        ["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "mkdocs build --strict" in asked.stdout
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "site/" in ignored


def test_links_of_the_site_lead_somewhere_without_network(site, built):
    lost = []
    for path, page in built.items():
        for link in [*page.links, *page.assets]:
            parts = urlsplit(link)
            if parts.scheme in ("data", "mailto") or path.name == "404.html":
                continue
            if parts.scheme or parts.netloc:
                assert re.fullmatch(r"https?", parts.scheme), link
                assert re.fullmatch(r"[\w.-]+\.\w+(:\d+)?|127\.0\.0\.1:\d+", parts.netloc), link
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_relative_to(site) or not target.is_file():
                lost.append((path.name, link))
            elif parts.fragment and target in built:
                known = built[target].ids | {"__top"}
                lost += [(path.name, link)] if unquote(parts.fragment) not in known else []
    assert lost == []


def test_pages_load_nothing_from_elsewhere(site, built):
    away = {(path.name, one) for path, page in built.items() for one in page.assets
            if urlsplit(one).netloc}  # fmt: skip
    assert away == set()
    sheets = [sheet.read_text() for sheet in site.rglob("*.css")]
    assert [one for sheet in sheets for one in re.findall(r"url\(['\"]?(https?:|//)", sheet)] == []
    assert sheets


def test_every_picture_has_words_for_those_who_do_not_see_it(built):
    pictures = [image for page in built.values() for image in page.images]
    assert len(pictures) >= 5
    assert [image["src"] for image in pictures if len(image.get("alt") or "") < 20] == []


def test_pictures_are_used_small_and_have_a_ground_of_their_own():
    text = "\n".join(page.read_text() for page in all_pages())
    pictures = sorted((DOCS / "pictures").glob("*.png"))
    assert len(pictures) >= 5
    for path in pictures:
        assert f"pictures/{path.name})" in text, f"no page shows {path.name}"
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert image.width >= 1000
            corners = image.convert("RGBA")
            assert corners.getpixel((2, 2)) == (255, 255, 255, 255)  # opaque, for dark pages


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_texts_lead_to_files_of_the_repository(page):
    """As a code host shows them, without the site."""
    for link in _LINK.findall(prose(page)):
        if urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), link
        if anchor and target.suffix == ".md":
            assert anchor in headings_of(target), f"{page.name}: {link}"


def headings_of(page):
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {one.strip().replace(" ", "-") for one in words}


def test_reference_has_every_command_and_option(built, site):
    text = (site / "reference" / "commands.html").read_text()
    root = typer.main.get_command(command_line.app)
    named = 0
    for path, command in leaves(root):
        assert f'id="{"-".join(path)}"' in text, path
        section = text.partition(f'id="{"-".join(path)}"')[2].partition("<h2")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.opts[0].startswith("-") else ():
                assert option in section, (path, option)
                named += 1
    assert named > 150


def leaves(command, path=()):
    """Return the commands that do something, each with its words."""
    if not hasattr(command, "commands"):
        return [(path, command)]
    below = command.commands.items()
    return [leaf for name, child in below for leaf in leaves(child, (*path, name))]


def test_python_reference_shows_what_the_pages_import(site):
    text = (site / "reference" / "python.html").read_text()
    for name in ("scene.open_scene", "inference.classify_cube", "polygons.polygonize",
                 "checkpoint.load_checkpoint", "spectra.bands_for_model",
                 "publish.write_class_map", "commands.train.train", "sensors.EnMAP"):  # fmt: skip
        assert f'id="hsi_pipeline.{name}"' in text
    assert "digital numbers" in text  # a docstring, and not just names


def test_figures_are_those_of_the_readme(site):
    text = (site / "figures.html").read_text()
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert "EnMAP Potsdam, validation tile, 5 seeds" in rows
    assert "EnMAP Potsdam, validation tile, 5 seeds" in text


def test_search_finds_words_from_the_disk(site, tmp_path):
    """Opened as a file, without a server and without network."""
    with chromium(tmp_path) as driver:
        driver.get(f"{(site / 'index.html').as_uri()}?q=halo")
        wait = WebDriverWait(driver, 30)
        wait.until(lambda _: "halo" in driver.page_source.lower())
        results = wait.until(
            lambda _: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__item a")
        )
        assert any("concepts/halo.html" in one.get_attribute("href") for one in results)
        assert [one for one in requests_of(driver) if not one.startswith("file:")] == []
        assert [one for one in complaints_of(driver) if "ERR_" in one] == []


@pytest.fixture(scope="module")
def texts():
    """Return the texts of the package's sources, with \\0 where a value is put in."""
    found = set()
    for path in (ROOT / "hsi_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call):
                found.add(said(node))
    return found - {""}


def said(node):
    """Return what an expression of strings says."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "\0"
    if isinstance(node, ast.JoinedStr):
        return "".join(said(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return said(node.left) + said(node.right)
    return "\0"


def test_messages_of_the_troubleshooting_page_are_those_of_the_program(texts):
    page = (DOCS / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(quoted) >= 20
    for message in quoted:
        parts = [re.escape(part) for part in message.split("...")]
        wanted = re.compile("[^\\n]*".join(parts))
        assert any(wanted.search(text) for text in texts), f"no longer said: {message}"


def test_programs_of_the_documentation_are_not_on_the_site(site):
    assert list(site.rglob("*.py")) == []
    assert Path(site / "assets" / "iframe-worker.js").is_file()
