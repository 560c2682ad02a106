"""upright: any picture that Pillow opens as upright RGB, in sRGB, of bounded size."""

from __future__ import annotations

import io
import logging
import math

import numpy as np
from PIL import Image, ImageCms

from ..config.printable import printable

log = logging.getLogger(__name__)

LARGEST = 24_000_000
"""Pixels that a photo keeps; larger ones are made smaller when they are read. The shorter side of
24 megapixels is 4,200 pixels: twice what a crop of 2,048 can show."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MOST_PROFILE_BYTES = 16 << 20
_SPACE = slice(16, 20)
"""Bytes of a profile that name what its channels are (ICC.1, section 7.2): `RGB `, `GRAY`, ..."""
_PRIMARIES = {9: "those of BT.2020", 11: "Display P3", 12: "Display P3"}
_CURVES = {16: "HDR (PQ)", 18: "HDR (HLG)"}
"""What a HEIC may say in the place of a profile (ISO 23091-2), where it is far from sRGB."""
_SAME_CURVE = 8.0
"""Of 255, in the mean over all greys: a linear curve is 48 away, a gamma of 2.2 is 2."""


def upright(image: Image.Image, name: str) -> Image.Image:
    """The picture turned as its EXIF tag asks, in RGB; its colour profile becomes sRGB,
    transparency becomes white, more than LARGEST pixels become LARGEST. `name`: of its file, for
    the log."""
    image.load()
    profile = image.info.get("icc_profile")
    if not profile and (wide := _wide_colours(image.info.get("nclx_profile"))):
        log.warning("%s: its colours are %s and are taken for sRGB", printable(name, 200), wide)
    plain = _to_srgb(_bounded(_plain_mode(image)), profile, printable(name, 200))
    if plain.mode == "RGBA":
        plain = Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain)
    return _turned(image, plain.convert("RGB"), name)


def upright_alpha(image: Image.Image, name: str) -> Image.Image | None:
    """The alpha channel (mode L), of the size and turned as `upright` gives the picture; None where
    there is none."""
    image.load()
    plain = _plain_mode(image)
    if plain.mode != "RGBA":
        return None
    return _turned(image, _bounded(plain).getchannel("A"), name)


def upright_mask(image: Image.Image, name: str) -> Image.Image:
    """A picture that is a mask (mode L), turned as its EXIF tag asks: its alpha channel where that
    says anything, else its brightness."""
    image.load()
    plain = _bounded(_plain_mode(image))
    if plain.mode == "RGBA" and len(set(plain.getchannel("A").getextrema())) > 1:
        return _turned(image, plain.getchannel("A"), name)
    return _turned(image, plain.convert("L"), name)


def _turned(image: Image.Image, part: Image.Image, name: str) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # a reader of damaged tags may raise anything; the picture is whole
        shown, why = printable(name, 200), printable(error, 200)
        log.warning("%s: its EXIF tags cannot be read, it is not turned: %s", shown, why)
        return part
    return part if turn is None else part.transpose(turn)


def bounded_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a picture with at most LARGEST pixels, of the same shape."""
    scale = math.sqrt(LARGEST / (width * height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def _plain_mode(image: Image.Image) -> Image.Image:
    """The same in one of L, RGB, RGBA, CMYK, LAB, YCbCr, HSV: what can be scaled and converted."""
    if image.mode.startswith("I"):  # 16 bit; a 16-bit PNG may come as 32-bit integers
        levels = np.asarray(image).clip(0, 65535) >> 8
        return Image.fromarray(levels.astype(np.uint8))
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image), nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if levels.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray((levels * scale).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("1", "P"):
        return image.convert("RGB")
    return image


def _bounded(image: Image.Image) -> Image.Image:
    if image.width * image.height <= LARGEST:
        return image
    return image.resize(bounded_size(*image.size), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _to_srgb(image: Image.Image, profile: object, shown: str) -> Image.Image:
    """The picture's colours in sRGB. A profile that is sRGB already, or cannot be used, changes
    nothing."""
    if not isinstance(profile, bytes) or not 0 < len(profile) <= _MOST_PROFILE_BYTES:
        return image
    space = profile[_SPACE]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower() and _acts_as_srgb(source, space):
            return image
        coloured = _as_profiled(image, space)
        mode = "RGBA" if coloured.mode == "RGBA" else "RGB"
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(coloured, source, srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        log.warning("%s: its colour profile is not used: %s", shown, printable(error, 200))
        return image
    assert converted is not None  # only a conversion in place gives none
    if image.mode == "RGBA" and converted.mode == "RGB":
        converted.putalpha(image.getchannel("A"))
    log.info("%s: colours converted from %s to sRGB", shown, printable(name, 80))
    return converted


def _wide_colours(coded: object) -> str:
    """What colours without a profile are, by their code points, if they are far from sRGB."""
    if not isinstance(coded, dict):
        return ""
    curve = _CURVES.get(coded.get("transfer_characteristics", 0))
    return curve or _PRIMARIES.get(coded.get("color_primaries", 0), "")


def _as_profiled(image: Image.Image, space: bytes) -> Image.Image:
    """The picture in the channels that its profile describes: grey ones may have an RGB profile,
    and those that came with transparency or a palette a grey one."""
    if space == b"RGB " and image.mode == "L":
        return image.convert("RGB")
    if space == b"GRAY" and image.mode in ("RGB", "RGBA"):
        red, green, blue = (image.getchannel(name).tobytes() for name in "RGB")
        return image.getchannel("R") if red == green == blue else image
    return image


def _acts_as_srgb(source: ImageCms.ImageCmsProfile, space: bytes) -> bool:
    """Whether grey has sRGB's curve: some editors write a linear profile with sRGB in its name."""
    grey = Image.linear_gradient("L").convert("RGB")
    coloured = _as_profiled(grey, space)
    srgb = ImageCms.createProfile("sRGB")
    found = ImageCms.profileToProfile(coloured, source, srgb, outputMode="RGB")
    assert found is not None  # only a conversion in place gives none
    away = np.abs(np.asarray(found, dtype=np.float32) - np.asarray(grey)).mean()
    return bool(away <= _SAME_CURVE)
