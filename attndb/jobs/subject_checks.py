"""What of a subject can be known to be wrong before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..config.stage import StageConfig
from ..data.dataset import check_category, check_placeholder, check_templates, templates_in
from ..data.folder import check_beside
from ..data.photo import DatasetError
from ..data.prior import check_prior_prompt, check_prior_weight
from ..data.scan import Listing
from .document import Section
from .job import PhotoChoice, PriorChoice


def check_photos(photos: PhotoChoice, found: Listing | None, section: Section) -> None:
    """Notes words that no training takes, and files beside the photos that are not there. `found`:
    what lies in their folder; None: it cannot be read, which is noted."""
    words = photos.placeholder, photos.category
    _noted(section, "category", lambda: check_category(photos.category))
    _noted(section, "placeholder", lambda: check_placeholder(*words))
    _noted(section, "template", lambda: check_templates(templates_in(photos.template)))
    if not 0.0 <= photos.background_weight <= 1.0:
        section.problem("background_weight: use 0 to 1", "background_weight")
    if photos.trigger.strip() and photos.captions != "plain text files":
        section.problem(
            "trigger is read with captions: plain text files alone; leave it out", "trigger"
        )
    if found is None:
        return
    folder, captions, masks = photos.folder, photos.captions, photos.masks
    _noted(
        section, "captions", lambda: check_beside(folder, found, captions=captions, masks="none")
    )
    _noted(section, "masks", lambda: check_beside(folder, found, captions="template", masks=masks))


def check_prior(prior: PriorChoice, photos: PhotoChoice, section: Section) -> None:
    """Notes what no prior images of this subject can have."""
    _noted(section, "weight", lambda: check_prior_weight(prior.weight))
    prompt = prior.prompt.replace("{}", photos.category)
    words = photos.category, photos.placeholder
    _noted(section, "prompt", lambda: check_prior_prompt(prompt, *words))


def check_stages(stages: Sequence[StageConfig], photos: PhotoChoice, section: Section) -> None:
    """Notes stages that want masks of photos that have none."""
    wanted = any(config.regularization.inside_mask for config in stages)
    if wanted and photos.masks == "none":
        section.problem(
            "inside_mask is on in regularization, and masks is none: say masks: files or alpha "
            "below photos, or turn it off",
            "settings",
        )


def _noted(section: Section, key: str, check: Callable[[], None]) -> None:
    try:
        check()
    except DatasetError as error:
        section.problem(str(error), key)
