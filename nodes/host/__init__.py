"""The seam to ComfyUI: the only rooms that touch the host's insides."""
