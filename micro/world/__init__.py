"""A procedural world of small captioned scenes at 128 px, with ground truth."""

from .captions import full_caption, random_caption
from .casting import random_identity, random_scene
from .render import Rendered, render
from .scene import SIZE, Companion, Look, Scene, Words

__all__ = [
    "SIZE",
    "Companion",
    "Look",
    "Rendered",
    "Scene",
    "Words",
    "full_caption",
    "random_caption",
    "random_identity",
    "random_scene",
    "render",
]
