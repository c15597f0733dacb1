"""Metadata in XML, of which nothing is believed."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hsi_pipeline.errors import InputError


def parse_xml(content: bytes, name: str) -> Element:
    """Parse metadata; entities and document types are refused.

    Args:
        content: The file's bytes.
        name: Of the file, for messages.

    Raises:
        InputError: It is no XML, or declares entities or a document type.
    """
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise InputError(
            f"{name} declares a document type or entities, which metadata has no need of; "
            "it is refused, download the product again"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"{name} is damaged: it is not XML ({error})") from error
    return root


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
