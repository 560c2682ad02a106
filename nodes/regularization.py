"""The node that sets the cross-attention map regulariser."""

from __future__ import annotations

from comfy_api.latest import io

from ..attndb.config import regularization as config
from .errors import naming_node
from .socket_types import Regularization


class AttentionMapRegularization(io.ComfyNode):
    """Strength and place of the regulariser."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttnDBAttentionMapRegularization",
            display_name="Attention Map Regularization",
            category="AttnDreamBooth/training",
            description="Ties the mean and variance of the new token's attention map to those of "
            "its category word. Published weights: 0.1 / 0 in stage 1, 2 / 5 in stages 2 and 3. "
            "Both 0: no regularisation (an ablation).",
            search_aliases=["attention loss", "cross attention", "regularizer", "prompt ignored"],
            inputs=[
                io.Float.Input(
                    "mean_weight",
                    default=2.0,
                    min=0.0,
                    max=100000.0,
                    step=0.1,
                    tooltip="lambda_mu: weight of the squared difference of the maps' means. "
                    "Summed over the batch, so its strength grows with the batch size.",
                ),
                io.Float.Input(
                    "variance_weight",
                    default=5.0,
                    min=0.0,
                    max=100000.0,
                    step=0.1,
                    tooltip="lambda_sigma: weight of the squared difference of their variances.",
                ),
                io.Combo.Input(
                    "layers",
                    options=["all", "down", "middle", "up"],
                    default="all",
                    tooltip="Which cross-attention layers of the U-Net are tied. Published: all.",
                    advanced=True,
                ),
                io.Boolean.Input(
                    "inside_mask",
                    default=False,
                    optional=True,  # prompts that were saved before it was there run as they did
                    tooltip="Take means and variances over the subject's pixels alone, where the "
                    "dataset has masks. Published: over all pixels.",
                    advanced=True,
                ),
            ],
            outputs=[
                Regularization.Output(
                    "regularization", tooltip="Connect to a stage to replace its own weights."
                )
            ],
        )

    @classmethod
    @naming_node
    def execute(
        cls, mean_weight: float, variance_weight: float, layers: str, inside_mask: bool = False
    ) -> io.NodeOutput:
        return io.NodeOutput(
            config.Regularization(
                mean_weight=mean_weight,
                variance_weight=variance_weight,
                layers=layers,
                inside_mask=inside_mask,
            )
        )


NODES: list[type[io.ComfyNode]] = [AttentionMapRegularization]
