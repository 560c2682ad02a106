"""attndb-micro: a procedural world, the small model trained on it, its judges and the demo."""
