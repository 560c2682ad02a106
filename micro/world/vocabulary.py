"""The words of the world: what a caption can name, and the colours they stand for."""

CATEGORIES = (
    "robot",
    "fish",
    "car",
    "house",
    "cat",
    "duck",
    "boat",
    "rocket",
    "mug",
    "mushroom",
    "flower",
    "butterfly",
    "turtle",
    "balloon",
)

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (250, 215, 40),
    "green": (50, 165, 60),
    "teal": (20, 175, 175),
    "blue": (40, 80, 220),
    "purple": (130, 50, 180),
    "pink": (250, 130, 190),
    "white": (244, 244, 244),
    "black": (38, 38, 44),
}

# The second colour of a pattern (stripes, spots, checks, the lower end of a fade).
_WHITE = (250, 250, 250)
PATTERN_PARTNERS = {name: _WHITE for name in COLOURS} | {
    "white": (120, 130, 150),
    "yellow": (120, 75, 20),
    "pink": (130, 20, 80),
}

PATTERNS = ("plain", "striped", "spotted", "checked", "faded")

# Each place with the phrase that a caption uses for it.
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
    "night": "at night",
}

STYLES = {
    "photo": ("a photo of",),
    "sketch": ("a sketch of",),
    "pixel": ("pixel art of",),
}

SIDES = ("left", "middle", "right")
