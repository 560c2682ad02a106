"""Prompts in the host's API format, written as the wires that a user would draw."""

from __future__ import annotations

from typing import Any


class Node:
    """One node of a prompt; `node[0]` is its first output, to be given to another's input."""

    def __init__(self, key: str, inputs: dict[str, Any]):
        self.id = key
        self.inputs = inputs

    def __getitem__(self, output: int) -> list[Any]:
        return [self.id, output]

    def __iter__(self) -> Any:
        raise TypeError("a node does not know how many outputs it has: index it")


class Graph:
    """A prompt under construction; `graph.prompt` is what the server takes."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def add(self, node_type: str, **inputs: Any) -> Node:
        """Add a node; inputs are values, or outputs of nodes added before."""
        key = str(len(self.prompt) + 1)
        self.prompt[key] = {"class_type": node_type, "inputs": inputs}
        return Node(key, inputs)

    def sample(
        self,
        model: list[Any],
        clip: list[Any],
        vae: list[Any],
        text: str,
        *,
        size: int | tuple[int, int] = 64,
        seed: int = 1,
        steps: int = 2,
        cfg: float = 7.5,
        prefix: str = "picture",
    ) -> Node:
        """The stock nodes from prompt to SaveImage, with the published sampler; gives SaveImage."""
        width, height = (size, size) if isinstance(size, int) else size
        latent = self.add("EmptyLatentImage", width=width, height=height, batch_size=1)
        sampled = self.add(
            "KSampler",
            model=model,
            positive=self.add("CLIPTextEncode", clip=clip, text=text)[0],
            negative=self.add("CLIPTextEncode", clip=clip, text="")[0],
            latent_image=latent[0],
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name="dpmpp_2m",
            scheduler="normal",
            denoise=1.0,
        )
        image = self.add("VAEDecode", samples=sampled[0], vae=vae)
        return self.add("SaveImage", images=image[0], filename_prefix=prefix)
