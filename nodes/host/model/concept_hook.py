"""ConceptHook: a concept's weight change for some of the prompts of a picture alone."""

from __future__ import annotations

import logging
from typing import Any

import comfy.hooks
from comfy.patcher_extension import WrappersMP

from ....attndb.artifacts.concept import TrainedConcept
from ....attndb.artifacts.lineage import check_not_another, lineage
from .concept_patches import check_fits, check_strength, concept_patches, concepts_on

log = logging.getLogger(__name__)

_CHECKED = "attndb_hooks"


class ConceptHook(comfy.hooks.WeightHook):
    """The host's hook for weights, of a concept that is on the wire: while the prompts that it is
    set on are denoised the MODEL has the concept, and otherwise it has not."""

    def __init__(self, concept: TrainedConcept | None = None, strength: float = 1.0) -> None:
        super().__init__(strength_model=strength, strength_clip=0.0)
        self.concept = concept  # None: of a clone, which gets it next

    def add_hook_patches(
        self,
        model: Any,
        model_options: dict[str, Any],
        target_dict: dict[str, Any],
        registered: comfy.hooks.HookGroup,
    ) -> bool:
        """Told by the host before it samples. ValueError if the concept does not fit the MODEL, or
        is on it already; once all hooks are known, if it is twice on a prompt."""
        if target_dict.get("target") == comfy.hooks.EnumWeightTarget.Clip:
            return False
        if not self.should_register(model, model_options, target_dict, registered):
            return False
        concept = self.concept
        assert concept is not None
        check_fits(model, concept, last=True)
        mine = lineage(concept)
        if any(mine.is_same(other) for other in concepts_on(model)):
            raise ValueError(
                f"the concept {concept.placeholder} is on the MODEL that samples and in a hook: "
                "connect the MODEL without it (CLIP keeps the word), or leave the hook out"
            )
        patches = concept_patches(concept)
        model.add_hook_patches(hook=self, patches=patches, strength_patch=self._strength_model)
        registered.add(self)
        # these options are of this sampling alone, and each of its hooks says the same
        wrappers = model_options["transformer_options"].setdefault("wrappers", {})
        wrappers.setdefault(WrappersMP.OUTER_SAMPLE, {})[_CHECKED] = [_sampled_once]
        return True

    def clone(self) -> ConceptHook:
        """As the host asks for it: of the same reference."""
        clone = super().clone()
        clone.concept = self.concept
        return clone


def _sampled_once(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Around one sampling run: the host joins groups of hooks (Combine Hooks, Cond Set Props with
    append) without a word to them, and would add a concept's weights as often as it is there."""
    conds = executor.class_obj.conds.values()
    groups = {id(c["hooks"]): c["hooks"] for part in conds for c in part if c.get("hooks")}
    for group in groups.values():
        _check_each_once(group)
    return executor(*args, **kwargs)


def _check_each_once(group: comfy.hooks.HookGroup) -> None:
    """ValueError for a concept, or two of one placeholder, in two hooks of a group."""
    seen: list[ConceptHook] = []
    for hook in group.hooks:
        if not isinstance(hook, ConceptHook) or hook.concept is None:
            continue
        mine = lineage(hook.concept)
        for other in seen:
            assert other.concept is not None
            theirs = lineage(other.concept)
            check_not_another(theirs, mine, "a prompt's hooks")
            if theirs.is_same(mine):
                raise ValueError(
                    f"the concept {mine.placeholder} is in two hooks of one prompt, and its "
                    "weights would be added twice: leave one of them out of Combine Hooks, or "
                    "connect it to prev_hooks of the other Create Hook Concept, which replaces it"
                )
        seen.append(hook)


def concept_hooks(
    concept: TrainedConcept, strength: float, before: comfy.hooks.HookGroup | None = None
) -> comfy.hooks.HookGroup:
    """A group of `before` and the concept's; another stage of the same concept in it is replaced,
    as on a MODEL. ValueError for a concept that is more than vectors and weights: what its method
    adds is on a MODEL as a whole; and for another one of the same placeholder."""
    check_strength(strength)
    if concept.modules:
        raise ValueError(
            f"the concept {concept.placeholder} has parts that work on the whole MODEL (NeTI, "
            "ViCo): they cannot be set on a part of the prompts. Use Apply Concept"
        )
    hooks = comfy.hooks.HookGroup() if before is None else before.clone()
    mine = lineage(concept)
    for hook in [one for one in hooks.hooks if isinstance(one, ConceptHook)]:
        assert hook.concept is not None
        theirs = lineage(hook.concept)
        check_not_another(theirs, mine, "prev_hooks")
        if theirs.is_same(mine):
            hooks.remove(hook)
    if not concept.delta:
        log.info("the concept %s is its word alone: there is nothing to hook", concept.placeholder)
    elif strength != 0:
        hooks.add(ConceptHook(concept, strength))
    return hooks
