"""Programs of the pack that work with ComfyUI as a library, without its server."""
