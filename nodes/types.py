"""The pack's own socket types."""

from __future__ import annotations

from comfy_api.latest import io

Dataset = io.Custom("ATTNDB_DATASET")
Concept = io.Custom("ATTNDB_CONCEPT")
Regularization = io.Custom("ATTNDB_REGULARIZATION")
