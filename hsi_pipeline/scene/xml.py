"""Metadata in XML, of which nothing is believed."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from hsi_pipeline.errors import InputError

_MOST_ELEMENTS = 2_000_000  # EnMAP's METADATA.XML has some 240,000
_DEEPEST = 200


def parse_xml(content: bytes, name: str) -> Element:
    """Parse metadata; entities and document types are refused.

    Args:
        content: The file's bytes.
        name: Of the file, for messages.

    Raises:
        InputError: It is no XML, or declares entities or a document type.
    """
    try:
        parser = DefusedXMLParser(target=_Builder(name), forbid_dtd=True)
        parser.feed(content)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise InputError(
            f"{name} declares a document type or entities, which metadata has no need of; "
            "it is refused, download the product again"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"{name} is damaged: it is not XML ({error})") from error
    return root


class _Builder(TreeBuilder):
    """Builds a tree, of no more elements than metadata have."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._count, self._depth = name, 0, 0

    def start(self, tag: str, attrs: dict[Any, Any], /) -> Element:
        self._count += 1
        self._depth += 1
        if self._count > _MOST_ELEMENTS or self._depth > _DEEPEST:
            raise InputError(f"{self._name} has more elements than metadata have; it is refused")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def text_of(root: Element, path: str, name: str) -> str:
    """Return the text of an element.

    Args:
        root: Where to begin.
        path: As `Element.find` takes it.
        name: Of the file, for messages.

    Raises:
        InputError: There is none, or it is empty.
    """
    found = root.find(path)
    text = "" if found is None else (found.text or "").strip()
    if not text:
        raise InputError(f"{name} lacks {path}; it is damaged or of another kind")
    return text


def number_of(root: Element, path: str, name: str) -> float:
    """Return the number in an element.

    Raises:
        InputError: There is none, or no finite number.
    """
    text = text_of(root, path, name)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise InputError(f"{name}: {path} is {text!r}, expected a number")
    return value
