"""A corpus of bad image files, the same every time: cut, damaged, lying, oversized, foreign."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, features

ENDINGS = {
    "PNG": "png",
    "JPEG": "jpg",
    "PROGRESSIVE": "jpeg",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tif",
    "GIF": "gif",
    **({"AVIF": "avif"} if features.check("avif") else {}),
}
CUTS = 10
FLIPS = 12
_PNG = b"\x89PNG\r\n\x1a\n"


def bad_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each file."""
    good = {kind: good_file(kind) for kind in ENDINGS}
    yield from _cut(good)
    yield from _damaged(good)
    yield from _lying(good)
    yield from _oversized()
    yield from _foreign(good)


def chance(key: str) -> np.random.Generator:
    """The same draws for the same key."""
    return np.random.default_rng(list(key.encode()))


def good_file(kind: str, side: int = 48) -> bytes:
    """A sound picture of a kind."""
    noise = np.random.default_rng(7).integers(0, 256, (side, side, 3), dtype=np.uint8)
    picture, buffer = Image.fromarray(noise), io.BytesIO()
    if kind == "PROGRESSIVE":
        picture.save(buffer, "JPEG", progressive=True)
    else:
        picture.save(buffer, kind)
    return buffer.getvalue()


def _cut(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for kind, content in good.items():
        for part in range(CUTS):
            length = max(1, len(content) * part // CUTS)
            yield f"cut-{kind.lower()}-{part}.{ENDINGS[kind]}", content[:length]


def _damaged(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Bytes changed in the header, anywhere, and the beginning overwritten."""
    for kind, content in good.items():
        for number in range(FLIPS):
            draw = chance(f"{kind}{number}")
            changed = bytearray(content)
            reach = 120 if number % 2 else len(content)
            for _ in range(1 + number):
                changed[draw.integers(min(reach, len(content)))] = draw.integers(256)
            yield f"damaged-{kind.lower()}-{number}.{ENDINGS[kind]}", bytes(changed)
        for length in (1, 3, 4, 8, 12):
            filler = b"\0" if length % 2 else b"\xff"
            yield (
                f"beheaded-{kind.lower()}-{length}.{ENDINGS[kind]}",
                filler * length + content[length:],
            )


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def png(
    width: int, height: int, depth: int, colour: int, *chunks: bytes, data: bytes = b""
) -> bytes:
    """A PNG that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = chunk(b"IDAT", zlib.compress(data))
    return _PNG + chunk(b"IHDR", header) + b"".join(chunks) + packed + chunk(b"IEND", b"")


SIZES = (
    (0, 0),
    (0, 10),
    (10, 0),
    (1, 100_000_000),
    (100_000_000, 1),
    (65_535, 65_535),
    (2**31 - 1, 2**31 - 1),
    (30_000, 30_000),
    (12_000, 9_000),
    (9_000, 9_000),
    (20_000, 150),
)


def _lying(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Headers that claim what is not there."""
    for number, (width, height) in enumerate(SIZES):
        for depth, colour in ((8, 2), (8, 6), (16, 0), (1, 3), (16, 6)):
            content = png(width, height, depth, colour, data=b"\0" * 64)
            yield f"lying-png-{number}-{depth}-{colour}.png", content
        short = (min(width, 65_535), min(height, 65_535))
        yield f"lying-bmp-{number}.bmp", _at(good["BMP"], 18, "<ii", width, height)
        yield f"lying-gif-{number}.gif", _at(good["GIF"], 6, "<HH", *short)
        for kind in ("JPEG", "PROGRESSIVE"):
            marker = b"\xff\xc0" if kind == "JPEG" else b"\xff\xc2"
            place = good[kind].index(marker) + 5
            claimed = _at(good[kind], place, ">HH", *short[::-1])
            yield f"lying-{kind.lower()}-{number}.jpg", claimed
        for tag, name in ((256, "width"), (257, "height"), (279, "strip"), (258, "bits")):
            value = max(width, height) if tag in (256, 257, 279) else 7 + number
            yield f"lying-tiff-{name}-{number}.tif", _tiff_value(good["TIFF"], tag, value)
    for number, (depth, colour) in enumerate(((3, 2), (8, 5), (32, 0), (8, 7), (2, 6))):
        yield f"lying-png-mode-{number}.png", png(8, 8, depth, colour, data=b"\0" * 300)


def _at(content: bytes, place: int, form: str, *values: int) -> bytes:
    new = struct.pack(form, *values)
    return content[:place] + new + content[place + len(new) :]


def _tiff_value(content: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value of a tag."""
    first = struct.unpack_from("<I", content, 4)[0]
    for place in range(first + 2, len(content) - 11, 12):
        if struct.unpack_from("<H", content, place)[0] == tag:
            return _at(content, place + 2, "<HII", 4, 1, value)
    return content


def _oversized() -> Iterator[tuple[str, bytes]]:
    """Small files that unpack to much."""
    zeros = zlib.compress(b"\0" * (80 << 20), 9)
    pixels = b"\0" * (8 * 25)
    text = b"Comment\0\0" + zeros
    yield "bomb-ztxt.png", png(8, 8, 8, 2, chunk(b"zTXt", text), data=pixels)
    yield "bomb-iccp.png", png(8, 8, 8, 2, chunk(b"iCCP", b"p\0\0" + zeros), data=pixels)
    many = [chunk(b"zTXt", b"k%d\0\0" % i + zeros[:2000]) for i in range(200)]
    yield "bomb-ztxt-many.png", png(8, 8, 8, 2, *many, data=pixels)
    international = b"k\0\1\0\0\0" + zeros
    yield "bomb-itxt.png", png(8, 8, 8, 2, chunk(b"iTXt", international), data=pixels)
    for number, side in enumerate((7_000, 9_500, 10_500)):
        rows = zlib.compressobj(9)
        packed = b"".join(rows.compress(b"\0" * (side + 1)) for _ in range(side)) + rows.flush()
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        whole = _PNG + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
        yield f"bomb-black-{number}.png", whole


def _foreign(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Other things under an image's name, and metadata that is none."""
    texts = {
        "text": b"this is not a picture\n" * 20,
        "html": b"<html><body><img src=x></body></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
        "xpm": b'/* XPM */\nstatic char *a[] = {\n"2 1 9999999 9",\n"a c #000000"};',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n/x 1 def\n",
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "psd": b"8BPS\0\1" + b"\0" * 60,
        "sgi": struct.pack(">HBBHHHH", 474, 1, 1, 3, 65_535, 65_535, 3) + b"\0" * 600,
        "ppm": b"P6\n60000 60000\n255\n",
        "ppm-text": b"P3\n2 2\nx\n",
        "pcx": b"\n\5\1\10\0\0\0\0\xff\xff\xff\xff" + b"\0" * 120,
        "tga": b"\0\0\2" + b"\0" * 9 + b"\xff\xff\xff\xff\x18\0",
        "ico": b"\0\0\1\0\1\0\0\0\0\0\1\0 \0\xff\xff\xff\x7f\x16\0\0\0",
        "dds": b"DDS |\0\0\0" + b"\xff" * 120,
        "zip": b"PK\3\4" + b"\0" * 60,
        "pickle": b"cos\nsystem\n(S'touch hacked'\ntR.",
        "elf": b"\x7fELF" + b"\2\1\1" + b"\0" * 60,
        "tensors": struct.pack("<Q", 2**60) + b'{"a": 1}',
        "zeros": b"\0" * 5000,
        "ones": b"\xff" * 5000,
        "utf16": "not a picture".encode("utf-16"),
        "empty": b"",
        "byte": b"\x89",
    }
    for name, content in texts.items():
        for ending in ("png", "jpg", "tif"):
            yield f"foreign-{name}.{ending}", content
    for number in range(24):
        draw = chance(f"random {number}")
        ending = ("png", "jpg", "gif", "webp", "bmp", "tif")[number % 6]
        kind = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")[number % 6]
        magic = good[kind][: 4 * (number % 4)]
        yield f"random-{number}.{ending}", magic + draw.bytes(200 + 40 * number)
    for number in range(8):
        garbage = chance(f"exif {number}").bytes(4 + 30 * number)
        exif = b"Exif\0\0" + (b"II*\0\x08\0\0\0" if number % 2 else b"") + garbage
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        yield f"exif-{number}.jpg", good["JPEG"][:2] + segment + good["JPEG"][2:]
        profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(garbage * 5))
        yield f"profile-{number}.png", png(8, 8, 8, 2, profile, data=b"\0" * 200)
