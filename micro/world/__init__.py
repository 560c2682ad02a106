"""A procedural world of small captioned scenes with ground truth."""

from .captions import full_caption, random_caption, random_scene
from .render import SIZE, Identity, Scene, render
from .vocabulary import CATEGORIES, COLOURS, PATTERNS, PLACES, STYLES

__all__ = [
    "CATEGORIES",
    "COLOURS",
    "PATTERNS",
    "PLACES",
    "SIZE",
    "STYLES",
    "Identity",
    "Scene",
    "full_caption",
    "random_caption",
    "random_scene",
    "render",
]
