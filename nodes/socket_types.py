"""The pack's own socket types."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

Dataset = io.Custom("ATTNDB_DATASET")
Concept = io.Custom("ATTNDB_CONCEPT")
Options = io.Custom("ATTNDB_OPTIONS")
Preview = io.Custom("ATTNDB_PREVIEW")
Regularization = io.Custom("ATTNDB_REGULARIZATION")
ImageEncoder = io.Custom("ATTNDB_ENCODER")
Scores = io.Custom("ATTNDB_SCORES")
