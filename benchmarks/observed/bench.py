"""ObservedBench: the host's workbench, with an observation at every training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from ...attndb.artifacts.concept import TrainedConcept
from ...attndb.config.stage import StageConfig
from ...attndb.data.augmentation import Crop, render
from ...attndb.data.dataset import ConceptDataset
from ...attndb.data.tokens import TokenizedPrompt
from ...attndb.models.conditioning import Embeddings
from ...attndb.training.attention_look import AttentionLook
from ...attndb.training.callback import Callback
from ...attndb.training.run import Run
from ...nodes.host.model.private_model import PrivateModel
from ...nodes.host.model.text import token_ids, tokenize_prompts
from ...nodes.host.ui.plan import plan_of
from ...nodes.host.workbench import HostWorkbench
from .observation import TIMESTEPS, ObservationCallback, cosine, word_places

Keep = Callable[[int, dict[str, float]], None]


class ObservedBench(HostWorkbench):
    """Looks at the first photo, and at concepts on the way."""

    def __init__(
        self,
        wires: tuple[Any, Any, Any],
        title: str,
        config: StageConfig,
        context: str,
        before: TrainedConcept | None,
        *,
        look: Keep,
        looked: Callable[[int], bool],
        score: Callable[[int, TrainedConcept], None],
        every: int,
    ) -> None:
        """`context`: a prompt with `{}`; `before`: what the stage goes on from; `every`: steps
        between looks, which `look` is told of."""
        super().__init__(*wires, plan_of([title], [config]))
        self._context, self._before = context, before
        self._look, self._looked, self._score, self._every = look, looked, score, every

    def callbacks(
        self,
        model: PrivateModel,
        config: StageConfig,
        dataset: ConceptDataset,
        prompt: TokenizedPrompt,
        embeddings: Embeddings,
        run: Run,
    ) -> Sequence[Callback]:
        """Those of every training, and ours."""
        others = super().callbacks(model, config, dataset, prompt, embeddings, run)
        pixels, _ = render(dataset.photos[0].image, Crop(), config.data.resolution)
        latent = model.encode_image(torch.from_numpy(pixels)[None]).float().cpu()
        subject = config.words.subject(dataset.placeholder, dataset.category)
        text = self._context.replace("{}", subject)
        [context] = self.tokenize_prompts(dataset, len(prompt.placeholder), [text])
        start = {name: vectors.detach().clone() for name, vectors in embeddings.items()}
        earlier = _moved_before(self._before)
        own = partial(cosine, start=start) if self._before is None else lambda now: earlier
        observation = ObservationCallback(
            AttentionLook(latent, TIMESTEPS, config.seed),
            context,
            prompt if config.words.with_category else None,
            own,
            self._look,
            self._looked,
            self._every,
            config.steps,
        )
        if self._before is None:
            observation.begin(model, embeddings)
        return [*others, observation]

    def keep_concept(self, concept: TrainedConcept, run: str, done: int, most: int) -> None:
        """Scored, not kept: `run` and `most` are the host's."""
        self._score(done, concept)


def words_looked_at(clip: Any, dataset: ConceptDataset, config: StageConfig, context: str) -> int:
    """How many words, as tokens, share the attention when a training is looked at."""
    initial = config.words.initial
    vectors = len(token_ids(clip, initial)) if initial else config.vectors
    subject = config.words.subject(dataset.placeholder, dataset.category)
    [prompt] = tokenize_prompts(clip, dataset, vectors, [context.replace("{}", subject)])
    return len(word_places(prompt))


def _moved_before(concept: TrainedConcept | None) -> float:
    """The embedding's cosine with its start after the stages so far; 1 where none trained it."""
    stages = [] if concept is None else concept.record["stages"]
    return next((s["embedding_cosine"] for s in stages if "embedding_cosine" in s), 1.0)
