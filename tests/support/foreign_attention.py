"""A pack of one node, for the shared server: what other packs do to attention."""


class ForeignAttention:
    """Replaces one attn2, as IP-Adapter packs do, whatever was there."""

    INPUT_TYPES = classmethod(lambda s: {"required": {"model": ("MODEL",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "test"

    def patch(self, model):
        from comfy.ldm.modules.attention import optimized_attention

        def attend(q, k, v, extra_options):
            return 0.5 * optimized_attention(q, k, v, extra_options["n_heads"])

        clone = model.clone()
        clone.set_model_attn2_replace(attend, "input", 1)
        return (clone,)


NODE_CLASS_MAPPINGS = {"TestForeignAttention": ForeignAttention}
