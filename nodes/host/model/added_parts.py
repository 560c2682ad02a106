"""What a method adds to a MODEL besides weights: NeTI's mapped word, ViCo's look at a photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ....attndb.artifacts.concept import TrainedConcept
from ....attndb.artifacts.lineage import Lineage
from ....attndb.methods.neti import MODULE as NETI
from ....attndb.methods.vico import MODULE as VICO
from ....attndb.models.space_time_mapper import SpaceTimeMapper
from .attn2 import attn2_layers
from .mapped_words import MappedWord, mapped_words, with_mapped_words
from .reference_image import made_reference_image, reference_image, with_reference_image


def with_added(
    model: Any,
    mark: Lineage,
    vectors: Tensor,
    modules: Mapping[str, Tensor],
    strength: float,
    reference: Mapping[str, Any] | None = None,
) -> Any:
    """A clone of MODEL with what a concept's method added, by the names of its tensors. `vectors`:
    its plain ones, (1, D). `reference`: a LATENT, for a method that looks at a photo. ValueError if
    that is missing, if the tensors cannot be read, or are for another model."""
    fronts = {f"{name.partition('.')[0]}." for name in modules}
    own = {name.partition(".")[2]: value for name, value in modules.items()}
    if fronts == {VICO}:
        photo = made_reference_image(model, mark, own, strength, reference)
        return with_reference_image(model, photo)
    if fronts == {NETI}:
        word = _mapped_word(model, mark, vectors, own, strength)
        return with_mapped_words(model, {**mapped_words(model), mark.key: word})
    unknown = sorted(name for name in modules if not name.startswith((NETI, VICO)))
    raise ValueError(
        f"the concept {mark.placeholder} has a part that this version of the pack does not "
        f"know ({unknown[0] if unknown else ', '.join(sorted(fronts))}): update the pack"
    )


def looks_at_a_photo(concept: TrainedConcept) -> bool:
    """Whether a MODEL with the concept needs a photo of the subject while it draws."""
    return any(name.startswith(VICO) for name in concept.modules)


def added_on(model: Any) -> list[Lineage]:
    """The concepts that have added something to a MODEL."""
    photo = reference_image(model)
    words = [word.lineage for word in mapped_words(model).values()]
    return words if photo is None else [*words, photo.lineage]


def without_added(model: Any, placeholder: str) -> Any:
    """A clone of MODEL without what the concept with this placeholder has added."""
    words = mapped_words(model).items()
    others = {key: word for key, word in words if not word.lineage.same_word(placeholder)}
    photo, clone = reference_image(model), with_mapped_words(model, others)
    if photo is not None and photo.lineage.same_word(placeholder):
        clone = with_reference_image(clone, None)
    return clone


def _mapped_word(
    model: Any, mark: Lineage, vectors: Tensor, tensors: Mapping[str, Tensor], strength: float
) -> MappedWord:
    """NeTI's word for a MODEL. ValueError if it cannot be read, or is for another model."""
    try:
        mapper = SpaceTimeMapper.from_tensors(tensors, vectors.shape[1])
    except ValueError as error:
        raise ValueError(
            f"the concept {mark.placeholder} is damaged: {error}; restore its file, or train it "
            "again"
        ) from error
    layers = len(attn2_layers(model))
    if mapper.layers != layers:
        raise ValueError(
            f"the concept {mark.placeholder} has a word for each of {mapper.layers} layers, and "
            f"this MODEL has {layers} (attn2): use the checkpoint that it was trained on"
        )
    return MappedWord(mark, mapper, vectors[0], strength)
