"""What a training says stays in the page: when it is closed and opened again, and at the end."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.host, pytest.mark.browser, pytest.mark.slow]

STAGE = {
    "1": {"class_type": "AttnDBLoadMicroModel", "inputs": {}},
    "2": {"class_type": "AttnDBMicroConcept", "inputs": {}},
    "3": {
        "class_type": "AttnDBConceptDatasetFromImages",
        "inputs": {"images": ["2", 0], "category": ["2", 1], "placeholder": "<my-robot>"},
    },
    "4": {
        "class_type": "AttnDBStage1LearnEmbedding",
        "inputs": {
            **{"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "dataset": ["3", 0]},
            **{"steps": 4000, "batch_size": 2, "resolution": 64, "precision": "fp32"},
        },
    },
    "5": {
        "class_type": "AttnDBSaveConcept",
        "inputs": {"concept": ["4", 0], "name": "reopened"},
    },
}


def test_opened_again_in_mid_training_the_page_shows_its_progress(front_end, server):
    front_end.load_prompt(STAGE)
    front_end.start()
    try:
        front_end.wait_for_text("step ", 240)
        front_end.page.wait_for_timeout(3000)  # till the page has kept its graph
        front_end.open(server.address)
        front_end.wait_for_text("step ", 120)
    finally:
        front_end.cancel()
    front_end.wait_for_text("kept at step ", 60)


def test_what_was_kept_and_what_to_write_stays_after_the_end(front_end):
    short = {**STAGE["4"]["inputs"], "steps": 2, "seed": 7}
    front_end.load_prompt({**STAGE, "4": {**STAGE["4"], "inputs": short}})
    front_end.run(240)
    front_end.page.wait_for_timeout(2000)  # until the page has put the job away
    front_end.wait_for_text("done in ", 5)
    assert front_end.errors == []
