"""Arrays to pictures inside a page: addresses that hold the picture itself."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.image import imsave

from hsi_pipeline.classes import ClassScheme

_QUALITY = 85


@dataclass(frozen=True)
class Scale:
    """How the numbers of a layer become bytes: byte = 1 + value / step, 0 where there is none."""

    step: float
    """Value of a step."""
    high: float
    """Largest value that is kept apart; higher ones become this."""

    @property
    def steps(self) -> int:
        """Number of steps above 0."""
        return round(self.high / self.step)

    def to_bytes(self, values: np.ndarray) -> np.ndarray:
        """Return values (y, x), NaN where there are none, as bytes."""
        steps = np.rint(np.clip(np.nan_to_num(values), 0, self.high) / self.step)
        return np.where(np.isnan(values), 0, 1 + steps).astype(np.uint8)


def class_png(codes: np.ndarray, scheme: ClassScheme) -> bytes:
    """Return class codes (y, x) as a PNG whose bytes are the codes."""
    palette = np.zeros((256, 4), np.uint8)
    for category in scheme.categories:
        palette[category.code] = (*category.rgb, 255)
    return indexed_png(codes, palette)


def layer_png(values: np.ndarray, scale: Scale, colors: Colormap) -> bytes:
    """Return numbers (y, x) as a PNG whose bytes are those of the scale."""
    palette = np.zeros((scale.steps + 2, 4), np.uint8)
    palette[1:] = colors(np.linspace(0, 1, scale.steps + 1), bytes=True)
    return indexed_png(scale.to_bytes(values), palette)


def indexed_png(pixels: np.ndarray, palette: np.ndarray) -> bytes:
    """Return a PNG with a byte a pixel and no filters, which a few lines of a page can read back.

    A page cannot trust a canvas for that: some browsers change colours that are read from it.

    Args:
        pixels: Places in the palette, uint8 (y, x).
        palette: Red, green, blue and opacity of each place, uint8 (place, 4).
    """
    height, width = pixels.shape
    lines = np.zeros((height, 1 + width), np.uint8)  # the first byte of a line: no filter
    lines[:, 1:] = pixels
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette[:, :3].tobytes()),
        (b"tRNS", palette[:, 3].tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def photo(picture: np.ndarray) -> bytes:
    """Return red, green, blue and opacity, uint8 (y, x, 4), as WebP, small but not exact."""
    file = io.BytesIO()
    imsave(file, picture, format="webp", pil_kwargs={"quality": _QUALITY, "method": 6})
    return file.getvalue()


def data_address(content: bytes, kind: str) -> str:
    """Return an address that holds its content."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
