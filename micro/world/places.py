"""The ten places, painted once each at three times the picture's size and kept."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from .grain import grain
from .scene import SIZE

HI = 3 * SIZE
HORIZON = 84  # px of the picture: where ground begins in most places
RGB = tuple[int, int, int]
Draw = ImageDraw.ImageDraw


def _sky(top: RGB, bottom: RGB, until: int = HORIZON) -> Image.Image:
    """A picture of HI x HI px whose upper part is a gradient."""
    f = np.clip(np.arange(HI) / (3 * until), 0, 1)[:, None, None]
    rows = np.array(top) * (1 - f) + np.array(bottom) * f
    return Image.fromarray(np.broadcast_to(rows, (HI, HI, 3)).round().astype(np.uint8))


def _ground(image: Image.Image, near: RGB, far: RGB, top: int = HORIZON) -> None:
    """Gradient ground from `top` (px of the picture) to the lower edge."""
    band = np.asarray(image).copy()
    f = np.linspace(0, 1, HI - 3 * top)[:, None, None]
    rows = np.array(far) * (1 - f) + np.array(near) * f
    band[3 * top :] = rows.round().astype(np.uint8)
    image.paste(Image.fromarray(band))


def _disc(d: Draw, x: float, y: float, r: float, fill: RGB) -> None:
    d.ellipse((3 * (x - r), 3 * (y - r), 3 * (x + r), 3 * (y + r)), fill=fill)


def _oval(d: Draw, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
    d.ellipse((3 * x0, 3 * y0, 3 * x1, 3 * y1), fill=fill)


def _box(d: Draw, x0: float, y0: float, x1: float, y1: float, fill: RGB, r: float = 0) -> None:
    d.rounded_rectangle((3 * x0, 3 * y0, 3 * x1, 3 * y1), 3 * r, fill=fill)


def _poly(d: Draw, *points: float, fill: RGB) -> None:
    d.polygon([3 * p for p in points], fill=fill)


def _cloud(d: Draw, x: float, y: float, r: float) -> None:
    for dx, dy, k in ((-1.2, 0.25, 0.7), (0, 0, 1), (1.2, 0.3, 0.75), (0.5, 0.35, 0.8)):
        _oval(
            d,
            x + (dx - k) * r,
            y + (dy - k * 0.7) * r,
            x + (dx + k) * r,
            y + (dy + k * 0.7) * r,
            (252, 253, 255),
        )


def _meadow(v: int) -> Image.Image:
    image = _sky((104, 178, 246), (206, 234, 252))
    d = ImageDraw.Draw(image)
    for x, y in (
        ((26, 22), (100, 34)),
        ((52, 30), (116, 18)),
        ((14, 36), (76, 20)),
        ((38, 18), (108, 40)),
    )[v]:
        _cloud(d, x, y, 9)
    _oval(d, -40, 64, 84, 150, (142, 204, 110))
    _oval(d, 50, 70, 190, 150, (122, 190, 96))
    _ground(image, (84, 166, 62), (124, 196, 84))
    d = ImageDraw.Draw(image)
    for i in range(9):
        x, y = (31 * i + 17 * v) % 126, 92 + (13 * i + 7 * v) % 34
        _disc(d, x, y, 1.6, ((252, 240, 120), (250, 250, 250), (240, 130, 150))[i % 3])
    return image


def _beach(v: int) -> Image.Image:
    image = _sky((112, 196, 248), (214, 238, 250), 56)
    d = ImageDraw.Draw(image)
    _disc(d, (24, 64, 104, 88)[v], 20, 9, (255, 244, 180))
    _box(d, 0, 54, 128, 86, (48, 138, 206))
    for y in (60, 68, 76):
        x = (y * 7 + 31 * v) % 60
        _box(d, x, y, x + 40, y + 1.6, (112, 184, 228), 0.8)
    _ground(image, (232, 204, 140), (248, 228, 174), 84)
    d = ImageDraw.Draw(image)
    _oval(d, -20, 80, 70, 90, (236, 246, 250))
    _oval(d, 50, 79, 150, 89, (236, 246, 250))
    return image


def _desert(v: int) -> Image.Image:
    image = _sky((252, 196, 120), (255, 236, 190))
    d = ImageDraw.Draw(image)
    _oval(
        d,
        *((-50, 62, 70, 150), (60, 60, 180, 150), (-10, 66, 120, 150), (30, 58, 150, 150))[v],
        (232, 172, 98),
    )
    _ground(image, (206, 138, 66), (232, 170, 92))
    d = ImageDraw.Draw(image)
    x = (110, 16, 118, 22)[v]
    green = (82, 136, 66)
    _box(d, x - 4, 48, x + 4, 88, green, 4)
    _box(d, x - 12, 56, x - 7, 70, green, 2.5)
    _box(d, x - 12, 66, x, 71, green, 2.5)
    _box(d, x + 7, 52, x + 12, 64, green, 2.5)
    _box(d, x, 60, x + 12, 65, green, 2.5)
    return image


def _snow(v: int) -> Image.Image:
    image = _sky((150, 182, 216), (222, 232, 242))
    d = ImageDraw.Draw(image)
    x = (30, 98, 64, 80)[v]
    _poly(d, x - 52, 88, x, 26, x + 52, 88, fill=(146, 162, 194))
    _poly(d, x - 17, 46, x, 26, x + 17, 46, x + 6, 42, x, 50, x - 7, 43, fill=(248, 251, 255))
    _poly(d, x + 18, 88, x + 52, 46, x + 86, 88, fill=(170, 184, 210))
    _ground(image, (226, 236, 248), (246, 250, 255))
    d = ImageDraw.Draw(image)
    _oval(d, -30, 80, 70, 104, (246, 250, 255))
    return image


def _forest(v: int) -> Image.Image:
    image = _sky((150, 190, 150), (196, 220, 176))
    d = ImageDraw.Draw(image)
    for layer, (dark, base) in enumerate((((112, 158, 116), 78), ((52, 108, 66), 88))):
        for i in range(5):
            x = (27 * i + 13 * layer + (0, 9, 17, 5)[v]) % 140 - 6
            _box(d, x - 2, base - 20, x + 2, base + 2, (96, 70, 48))
            for k in range(3):
                y = base - 62 + 14 * k + 10 * (1 - layer)
                _poly(d, x - 9 - 3 * k, y + 22, x, y, x + 9 + 3 * k, y + 22, fill=dark)
    _ground(image, (74, 102, 50), (104, 134, 66), 86)
    return image


def _city(v: int) -> Image.Image:
    image = _sky((164, 196, 224), (230, 236, 240))
    d = ImageDraw.Draw(image)
    heights = (
        (22, 48, 32, 56, 18),
        (46, 18, 54, 28, 40),
        (34, 56, 14, 40, 24),
        (52, 30, 44, 16, 36),
    )[v]
    walls = ((134, 140, 158), (170, 142, 126), (120, 132, 142))
    for i, top in enumerate(heights):
        x = 1 + 26 * i
        _box(d, x, top, x + 23, 90, walls[(i + v) % 3])
        for y in range(top + 5, 80, 11):
            for k in (3, 13):
                _box(d, x + k, y, x + k + 6, y + 6, (250, 232, 164))
    _ground(image, (84, 86, 94), (112, 114, 122), 88)
    d = ImageDraw.Draw(image)
    for x in range(4, 128, 32):
        _box(d, x, 119, x + 16, 122, (238, 238, 232))
    return image


def _underwater(v: int) -> Image.Image:
    image = _sky((84, 196, 222), (18, 84, 150), 118)
    d = ImageDraw.Draw(image)
    _oval(d, -30, 106, 90, 150, (196, 182, 132))
    _oval(d, 50, 110, 170, 150, (184, 170, 122))
    for x, c in zip(
        ((10, 116), (20, 104), (28, 120), (8, 98))[v], ((40, 140, 96), (214, 96, 110)), strict=True
    ):
        for k in (-5, 0, 5):
            _poly(d, x + k - 3, 120, x + k * 1.6, 66 + 3 * abs(k), x + k + 3, 120, fill=c)
    for i in range(5):
        x = (100, 28, 66, 84)[v] + 6 * (i % 2)
        _disc(d, x, 14 + 13 * i, 2.4 + (i % 3), (176, 228, 242))
    return image


def _space(v: int) -> Image.Image:
    image = _sky((22, 16, 54), (58, 32, 92), 128)
    d = ImageDraw.Draw(image)
    for i in range(26):
        x, y = (37 * i + 23 * v + 11) % 127, (71 * i + 41 * v + 7) % 127
        _disc(d, x, y, 0.7 + 0.5 * (i % 3), (252, 250, 232))
    x, y = ((24, 26), (104, 24), (22, 100), (100, 96))[v]
    _disc(d, x, y, 15, (222, 146, 98))
    _oval(d, x - 11, y - 9, x + 6, y - 4, (240, 178, 130))
    _oval(d, x - 23, y - 2, x + 23, y + 3, (246, 218, 168))
    return image


def _room(v: int) -> Image.Image:
    image = _sky((246, 222, 198), (238, 204, 176))
    d = ImageDraw.Draw(image)
    x = (14, 76, 46, 84)[v]
    _box(d, x - 3, 11, x + 41, 53, (255, 253, 248), 2)
    _box(d, x + 1, 15, x + 18, 49, (158, 210, 244))
    _box(d, x + 20, 15, x + 37, 49, (158, 210, 244))
    x = (86, 14, 4, 20)[v]
    _box(d, x, 20, x + 26, 42, (150, 98, 70), 2)
    _box(d, x + 3, 23, x + 23, 39, (120, 170, 150))
    _ground(image, (160, 106, 68), (190, 132, 88), 88)
    d = ImageDraw.Draw(image)
    _box(d, 0, 85, 128, 90, (252, 246, 236))
    for y in (98, 109, 121):
        _box(d, 0, y, 128, y + 1.4, (148, 96, 60))
    _oval(
        d,
        14,
        100,
        114,
        126,
        (((206, 110, 96), (104, 130, 170), (150, 160, 104), (190, 150, 90))[v]),
    )
    return image


def _stage(v: int) -> Image.Image:
    image = _sky((72, 24, 48), (112, 40, 62), 92)
    d = ImageDraw.Draw(image)
    for i in range(9):
        x = 15 * i - 4
        _oval(d, x, -10, x + 10, 104, (142, 34, 52))
    x = (64, 50, 78, 64)[v]
    _poly(d, x - 8, 0, x + 8, 0, x + 46, 100, x - 46, 100, fill=(196, 96, 92))
    for i in range(6):
        _oval(d, 22 * i - 4, -16, 22 * i + 22, 16, (188, 40, 58))
    _ground(image, (150, 98, 62), (198, 142, 96), 92)
    d = ImageDraw.Draw(image)
    _oval(d, x - 52, 98, x + 52, 126, (226, 176, 126))
    return image


_PAINTERS: dict[str, Callable[[int], Image.Image]] = {
    "meadow": _meadow,
    "beach": _beach,
    "desert": _desert,
    "snow": _snow,
    "forest": _forest,
    "city": _city,
    "underwater": _underwater,
    "space": _space,
    "room": _room,
    "stage": _stage,
}


@cache
def sharp_place(place: str, variant: int) -> NDArray[np.floating]:
    """The empty place, (SIZE, SIZE, 3) in 0..255, with clean edges."""
    image = _PAINTERS[place](variant)
    pixels = np.asarray(image, dtype=np.float32).reshape(SIZE, 3, SIZE, 3, 3)
    return pixels.mean(axis=(1, 3))


@cache
def soft_place(place: str, variant: int) -> NDArray[np.floating]:
    """The same as a lens sees it that is focused on the subject: a little blurred, with grain."""
    image = Image.fromarray(sharp_place(place, variant).round().astype(np.uint8))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(1.1)), dtype=np.float32)
    lumps = 0.6 * grain(16, variant) + 0.4 * grain(8, variant)
    return blurred * (1 + 0.03 * lumps[:SIZE, :SIZE, None])
