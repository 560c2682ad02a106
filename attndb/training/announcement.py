"""What a stage is about to do, said in the log before it begins."""

from __future__ import annotations

import logging

from ..config.named import named
from .doubtful_settings import doubts
from .stage_request import StageRequest
from .texts import Texts

log = logging.getLogger(__name__)


def say_what_is_trained(request: StageRequest, texts: Texts) -> None:
    """Words and settings of the stage, in the log."""
    category, config = texts.category, request.config
    for doubt in doubts(config):
        log.warning("%s: %s", request.title, doubt)
    if not config.traits.ties_maps:
        _say_words(request, texts)
        return
    log.info(
        "%s: prompt %s; the placeholder's map is tied to token %d of %r (id %d)",
        request.title,
        named([repr(prompt.text) for prompt in texts.prompts], 1),
        category.tied_offset + 1,
        category.text,
        category.ids[category.tied_offset],
    )
    for name, weight in config.held_to_the_base.items():
        if weight:
            log.info("%s: held to the base model by %s %g", request.title, name, weight)
    if request.concept is None and "embedding" not in config.trains:
        log.warning(
            "%s: no concept connected; the placeholder starts from the untrained embedding of %r "
            "(an ablation of the method)",
            request.title,
            category.text,
        )


def _say_words(request: StageRequest, texts: Texts) -> None:
    """Of a compared method."""
    initial = request.config.words.initial or texts.category.text
    log.info(
        "%s: prompt %s; the placeholder begins as %r",
        request.title,
        named([repr(prompt.text) for prompt in texts.trained], 1),
        initial,
    )
    usual = request.config.traits.without_prior
    if texts.prior is None and usual:
        log.warning(
            "%s: published with prior images (Add Prior Images), and the dataset has none: the "
            "category may take the subject's looks, and %s usual",
            request.title,
            usual,
        )
