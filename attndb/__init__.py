"""The AttnDreamBooth method, host-free: torch, einops, safetensors, numpy, PIL, transformers."""
