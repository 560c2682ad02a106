"""The ten backgrounds, drawn flat at 3 x the picture's size; a place has a few fixed variants."""

from PIL import Image, ImageDraw

HI = 192  # drawing size: three times the 64 px of a scene
VARIANTS = 3
FLOATING = ("underwater", "space")  # no ground, so no shadow


def _bands(draw: ImageDraw.ImageDraw, top: int, bottom: int, a: tuple, b: tuple) -> None:
    """A vertical gradient from colour a to b in bands of 6 px (2 px of the scene)."""
    for y in range(top, bottom, 6):
        f = (y - top) / max(1, bottom - top - 1)
        draw.rectangle(
            (0, y, HI, min(bottom, y + 6)),
            fill=tuple(int(p + (q - p) * f) for p, q in zip(a, b, strict=True)),
        )


def _disc(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, fill: tuple) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _meadow(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 120, (120, 190, 250), (200, 230, 255))
    for x in ((30, 140), (70, 165), (20, 100))[v]:
        d.ellipse((x - 22, 22, x + 22, 40), fill=(255, 255, 255))
    d.ellipse((-60, 96, 130, 200), fill=(120, 195, 90))
    d.rectangle((0, 120, HI, HI), fill=(95, 175, 70))


def _beach(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 84, (130, 205, 250), (190, 230, 250))
    _disc(d, (36, 96, 158)[v], 30, 15, (255, 240, 150))
    d.rectangle((0, 84, HI, 126), fill=(40, 120, 200))
    d.rectangle((0, 122, HI, 130), fill=(225, 240, 250))
    d.rectangle((0, 130, HI, HI), fill=(240, 218, 160))


def _desert(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 124, (250, 190, 110), (255, 225, 160))
    d.ellipse(((-80, 84, 90, 200), (80, 90, 260, 200), (0, 92, 200, 200))[v], fill=(225, 160, 80))
    d.rectangle((0, 122, HI, HI), fill=(215, 145, 65))
    x = (160, 24, 168)[v]
    d.rectangle((x - 6, 72, x + 6, 124), fill=(70, 120, 50))
    d.rectangle((x - 16, 84, x - 10, 102), fill=(70, 120, 50))
    d.rectangle((x - 16, 97, x, 103), fill=(70, 120, 50))


def _snow(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 120, (165, 185, 210), (205, 215, 230))
    x = (50, 150, 100)[v]
    d.polygon((x - 60, 120, x, 42, x + 60, 120), fill=(140, 155, 185))
    d.polygon((x - 20, 68, x, 42, x + 20, 68), fill=(245, 250, 255))
    d.rectangle((0, 116, HI, HI), fill=(238, 244, 252))


def _forest(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 132, (110, 150, 110), (70, 110, 75))
    for x in ((18, 66, 128, 176), (10, 56, 104, 160), (30, 88, 140, 184))[v]:
        d.rectangle((x - 5, 60, x + 5, 128), fill=(85, 60, 40))
        d.polygon((x - 24, 90, x, 6, x + 24, 90), fill=(30, 85, 45))
    d.rectangle((0, 126, HI, HI), fill=(65, 85, 45))


def _city(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 132, (170, 190, 205), (215, 220, 225))
    heights = ((30, 70, 46, 84, 24), (66, 26, 80, 40, 60), (50, 84, 20, 60, 34))[v]
    for i, top in enumerate(heights):
        x = 4 + 38 * i
        d.rectangle((x, top, x + 32, 130), fill=((120, 125, 140), (145, 130, 125))[i % 2])
        for y in range(top + 8, 120, 18):
            d.rectangle((x + 6, y, x + 13, y + 8), fill=(245, 235, 160))
            d.rectangle((x + 19, y, x + 26, y + 8), fill=(245, 235, 160))
    d.rectangle((0, 128, HI, HI), fill=(85, 88, 95))
    for x in range(8, HI, 48):
        d.rectangle((x, 168, x + 24, 174), fill=(235, 235, 235))


def _underwater(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 168, (60, 170, 210), (15, 70, 140))
    d.rectangle((0, 168, HI, HI), fill=(170, 160, 120))
    for x in ((16, 170), (28, 150), (40, 178))[v]:
        d.polygon((x - 9, 172, x - 3, 96, x + 3, 130, x + 9, 108, x + 9, 172), fill=(30, 120, 80))
    for i in range(3):
        _disc(d, (150, 40, 100)[v] + 8 * (i % 2), 20 + 22 * i, 6, (190, 230, 245))


def _space(d: ImageDraw.ImageDraw, v: int) -> None:
    d.rectangle((0, 0, HI, HI), fill=(16, 12, 40))
    for i in range(14):
        x, y = (37 * i + 23 * v + 11) % 186, (71 * i + 41 * v + 7) % 186
        d.rectangle((x, y, x + 4, y + 4), fill=(250, 250, 235))
    x = (34, 160, 40)[v]
    y = (36, 34, 156)[v]
    _disc(d, x, y, 22, (215, 140, 90))
    d.rectangle((x - 32, y - 3, x + 32, y + 3), fill=(240, 205, 150))


def _room(d: ImageDraw.ImageDraw, v: int) -> None:
    d.rectangle((0, 0, HI, 132), fill=(235, 205, 180))
    x = (20, 112, 66)[v]
    d.rectangle((x, 20, x + 58, 78), fill=(255, 255, 255))
    d.rectangle((x + 5, 25, x + 53, 73), fill=(150, 205, 240))
    d.rectangle((x + 26, 20, x + 32, 78), fill=(255, 255, 255))
    d.rectangle((0, 128, HI, 136), fill=(250, 245, 238))
    d.rectangle((0, 136, HI, HI), fill=(165, 110, 70))
    for y in (154, 174):
        d.rectangle((0, y, HI, y + 3), fill=(140, 90, 55))


def _night(d: ImageDraw.ImageDraw, v: int) -> None:
    _bands(d, 0, 126, (14, 22, 60), (40, 60, 120))
    _disc(d, (154, 34, 120)[v], 34, 18, (255, 245, 200))
    for i in range(7):
        x, y = (53 * i + 31 * v + 9) % 186, (29 * i + 17 * v + 6) % 90
        d.rectangle((x, y, x + 4, y + 4), fill=(235, 235, 220))
    d.ellipse((60, 100, 260, 220), fill=(24, 48, 52))
    d.rectangle((0, 126, HI, HI), fill=(20, 40, 40))


_PAINTERS = {
    "meadow": _meadow,
    "beach": _beach,
    "desert": _desert,
    "snow": _snow,
    "forest": _forest,
    "city": _city,
    "underwater": _underwater,
    "space": _space,
    "room": _room,
    "night": _night,
}


def paint_place(place: str, variant: int) -> Image.Image:
    """The empty place as an RGB picture of HI x HI px; `variant` in 0..VARIANTS-1."""
    image = Image.new("RGB", (HI, HI))
    _PAINTERS[place](ImageDraw.Draw(image), variant)
    return image
