"""The icon and the banner of the registry's page, cut out of the demo's contact sheet.

    .venv/bin/python demo/registry_pictures.py

docs/icon.png is 400 x 400, docs/banner.png 1260 x 540 (21:9).
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

DOCS = Path(__file__).resolve().parents[1] / "docs"
TILE, STEP, LEFT = 160, 170, 10
PHOTOS, DRAWN, MAPPED = 38, 880, 1521
"""Tops of the sheet's rows: the photos, what is drawn after stage 3, where its words look."""
PAPER, INK, FAINT = (24, 25, 29), (236, 236, 240), (160, 162, 170)
ICON, BANNER = (400, 400), (1260, 540)


def tile(sheet: Image.Image, top: int, column: int, side: int) -> Image.Image:
    """A picture of the sheet, (side, side)."""
    x = LEFT + STEP * column
    return sheet.crop((x, top, x + TILE, top + TILE)).resize((side, side), Image.Resampling.LANCZOS)


def icon(sheet: Image.Image) -> Image.Image:
    """A photo of the subject, and where its word looks, on the two sides of a diagonal."""
    made, maps = tile(sheet, PHOTOS, 0, ICON[0]), tile(sheet, MAPPED, 1, ICON[0])
    half = Image.new("L", ICON, 0)
    draw = ImageDraw.Draw(half)
    draw.polygon([(ICON[0], 0), ICON, (0, ICON[1])], fill=255)
    made.paste(maps, mask=half)
    ImageDraw.Draw(made).line([(ICON[0], 0), (0, ICON[1])], fill=INK, width=4)
    return made


def banner(sheet: Image.Image) -> Image.Image:
    """The name, the photos, and below them what is drawn after training."""
    page = Image.new("RGB", BANNER, PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((30, 46), "AttnDreamBooth", INK, font=ImageFont.load_default(size=52))
    draw.text((30, 112), "for ComfyUI", FAINT, font=ImageFont.load_default(size=34))
    small, large, gap = 144, 190, 12
    for column in range(5):
        place = (BANNER[0] - (5 - column) * (small + gap) - 18, 40)
        page.paste(tile(sheet, PHOTOS, column, small), place)
    said = "5 photos in, then any scene (drawn by the embedded toy model):"
    draw.text((30, 222), said, FAINT, font=ImageFont.load_default(size=26))
    for column in range(6):
        page.paste(tile(sheet, DRAWN, column, large), (30 + column * (large + gap), 290))
    return page


def main() -> None:
    sheet = Image.open(DOCS / "contact_sheet.png").convert("RGB")
    for name, make in {"icon": icon, "banner": banner}.items():
        make(sheet).save(DOCS / f"{name}.png", optimize=True)
        print(f"docs/{name}.png written")


if __name__ == "__main__":
    main()
