"""The words of the world, and the colours that they stand for."""

RGB = tuple[int, int, int]

CATEGORIES = (
    *("robot", "fish", "car", "house", "cat", "duck", "boat"),
    *("rocket", "mug", "mushroom", "flower", "butterfly", "turtle", "owl"),
)

# Colours far enough apart that a picture of any style and light tells which is meant.
COLOURS: dict[str, RGB] = {
    "red": (212, 38, 38),
    "orange": (242, 126, 20),
    "yellow": (248, 212, 44),
    "green": (52, 164, 60),
    "teal": (22, 172, 168),
    "blue": (42, 84, 220),
    "purple": (130, 52, 178),
    "pink": (248, 134, 188),
    "brown": (124, 76, 40),
    "white": (242, 242, 242),
    "black": (42, 42, 48),
}

# Names between them: they give an embedding something to lean on, and no judge asks for them.
FREE_COLOURS: dict[str, RGB] = {
    "navy": (28, 38, 112),
    "mint": (152, 228, 190),
    "lime": (162, 218, 44),
    "coral": (248, 114, 94),
    "gold": (222, 170, 40),
    "crimson": (188, 22, 74),
    "lilac": (188, 154, 238),
    "olive": (118, 122, 44),
    "cream": (248, 232, 200),
    "azure": (108, 186, 246),
    "plum": (104, 32, 98),
    "silver": (170, 176, 186),
}
ALL_COLOURS = COLOURS | FREE_COLOURS

# A pattern with the noun that a clause uses for it ("with yellow spots").
PATTERNS = {"plain": "", "striped": "stripes", "spotted": "spots", "checked": "checks"}
FINISHES = ("smooth", "shiny", "fuzzy", "wooden")  # smooth has no word

HATS = ("hat", "crown", "cap", "bow")
HELD = ("balloon", "flag", "lantern")
BADGES = ("star", "heart", "diamond")
# Parts of concepts that no caption names.
NAMELESS_HATS = ("horn", "ball", "leaf")
NAMELESS_BADGES = ("bar", "ring")

POSES = {"standing": "", "jumping": "jumping", "leaning": "leaning"}
RELATIONS = ("next to", "on top of", "in front of")

PLACES = {
    "meadow": "in a meadow",
    "beach": "on the beach",
    "desert": "in the desert",
    "snow": "in the snow",
    "forest": "in a forest",
    "city": "in the city",
    "underwater": "underwater",
    "space": "in space",
    "room": "in a room",
    "stage": "on a stage",
}
FLOATING = ("underwater", "space")  # no ground, so no shadow
INDOORS = ("underwater", "space", "room", "stage")  # no light or weather of its own

LIGHTS = {
    "day": "",
    "sunset": "at sunset",
    "night": "at night",
    "rain": "in the rain",
    "fog": "in the fog",
}

STYLES = {
    "photo": ("a photo of", "a picture of"),
    "sketch": ("a sketch of", "a drawing of"),
    "pixel": ("pixel art of", "pixel art of"),
    "watercolour": ("a watercolour of", "a painting of"),
}
