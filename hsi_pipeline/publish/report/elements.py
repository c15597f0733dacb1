"""HTML as a tree, so that no text of a file can become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

type Child = str | ET.Element | Iterable["Child"] | None

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERRED = re.compile(r"#([^)\"]+)")
_LONG_NUMBER = re.compile(r"(\d+\.\d)\d+")
# what XML and HTML cannot hold, but class names can
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def element(name: str, /, *children: Child, **attributes: str | int | bool | None) -> ET.Element:
    """Return an element of HTML.

    Args:
        name: Such as "p".
        children: Texts, elements, sequences of them; None is left out.
        attributes: `class_` for class, `data_layer` for data-layer. True stands alone; False and
            None are left out.
    """
    made = ET.Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            made.set(key.rstrip("_").replace("_", "-"), "" if value is True else _clean(str(value)))
    _append(made, children)
    return made


def breakable(text: str) -> list[Child]:
    """Return a name that may go on in the next line after an underscore."""
    parts = re.split("(?<=_)", text)
    return [parts[0], *((element("wbr"), part) for part in parts[1:])]


def class_label(name: str, color: str | None) -> ET.Element:
    """Return the name of a class beside a square of its colour."""
    # an element without children is false
    square = element("span", class_="swatch", style=f"background:{color}", aria_hidden="true")
    return element(
        "span", square if color else None, element("span", name, class_="name"), class_="labelled"
    )


def as_html(node: ET.Element) -> str:
    """Return the text of an element with all that is in it."""
    return ET.tostring(node, encoding="unicode", method="html")


def inline_svg(svg: str, label: str) -> ET.Element:
    """Return a figure of matplotlib as an element that scales with the page.

    Args:
        svg: The SVG.
        label: What it shows, for those who do not see it.
    """
    root = ET.fromstring(svg)
    used = set(_REFERRED.findall(svg))
    for node in root.iter():
        node.tag = node.tag.removeprefix(_SVG)
        if _LINK in node.attrib:
            node.set("href", node.attrib.pop(_LINK))
        if node.get("id") not in used:
            node.attrib.pop("id", None)
        for key in ("d", "points"):  # in points, of which a page shows none by itself
            if key in node.attrib:
                node.set(key, " ".join(_LONG_NUMBER.sub(r"\1", node.attrib[key]).split()))
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", _clean(label))
    return root


def _append(parent: ET.Element, children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, ET.Element):
            parent.append(child)
        elif not isinstance(child, str):
            _append(parent, child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + _clean(child)
        else:
            parent.text = (parent.text or "") + _clean(child)


def _clean(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
