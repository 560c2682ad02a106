"""What people type into the page's search finds the node that they need."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.host, pytest.mark.browser]

TRAIN, APPLY, LOAD, SAVE = "Train Concept", "Apply Concept", "Load Concept", "Save Concept"
PHOTOS = "Load Concept Dataset"
IMPORT, EXPORT = "Import Concept", "Export to Diffusers"
STOCK = "Regularize Attention (Train LoRA)"
OURS = [TRAIN, APPLY, LOAD, SAVE, PHOTOS]

TYPED = {
    "textual inversion": ["Stage 1: Learn Embedding", TRAIN, APPLY],
    "lora": [APPLY, LOAD, SAVE, STOCK],
    "train lora": [STOCK],
    "prompt ignored": ["Attention Map Regularization", STOCK],
    "regularizer": ["Attention Map Regularization", STOCK],
    "subject": [TRAIN, PHOTOS, APPLY],
    "face": [TRAIN, PHOTOS],
    "character": [TRAIN, PHOTOS],
    "style": [TRAIN, PHOTOS],
    "teach": [TRAIN],
    "finetune": [TRAIN, "Stage 3: Train U-Net"],
    "fine-tune": [TRAIN, "Stage 3: Train U-Net"],
    "photo folder": [PHOTOS],
    "personalization": [TRAIN],
    "embedding": ["Stage 1: Learn Embedding", SAVE, LOAD],
    "apply": [APPLY],
    "load": [LOAD, PHOTOS],
    "save": [SAVE, EXPORT],
    "export": [SAVE, EXPORT],
    "diffusers": [IMPORT, EXPORT],
    "hugging face": [EXPORT],
    "from_pretrained": [EXPORT],
    "concept": OURS,
    "dreambooth": [TRAIN, PHOTOS, "Train Compared Method"],
    "attndreambooth": [TRAIN],
    "neti": ["Train Compared Method"],
    "vico": ["Train Compared Method"],
    "preview crops": ["Preview Dataset"],
    "dataset": [PHOTOS, "Preview Dataset"],
    "augmentation": ["Preview Dataset", "Training Options"],
    "compare": ["Compare Concepts", "Compare Attention"],
    "xy plot": ["Compare Concepts"],
    "before after": ["Compare Concepts"],
    "evaluate": ["Evaluate Concept", "Score Images"],
    "clip score": ["Evaluate Concept", "Score Images", "Load Image Encoder"],
    "prompt list": ["Prompt Set"],
    "report": ["Training Report"],
    "best checkpoint": ["Evaluate Concept"],
    "train": [TRAIN, "Stage 2: Train Cross-Attention", "Training Options"],
}


@pytest.fixture(scope="module", autouse=True)
def _closed_at_the_end(_page):
    yield
    _page.close_search()


@pytest.mark.parametrize("words", TYPED)
def test_what_people_type_finds_the_node(front_end, words):
    found = front_end.search(words)
    assert [name for name in TYPED[words] if name not in found] == [], found


def test_train_offers_the_node_of_all_stages_before_our_others(front_end, server):
    ours = {
        info["display_name"]
        for info in server.object_info().values()
        if info.get("python_module") == "custom_nodes.attndreambooth"
    }
    offered = [name for name in front_end.search("train") if name in ours]
    assert offered[0] == TRAIN
    assert front_end.search("train").index(TRAIN) <= 1, "after the stock Train LoRA, or before it"


def test_every_node_has_words_by_which_it_is_found(server):
    for name, info in server.object_info().items():
        if info.get("python_module") == "custom_nodes.attndreambooth":
            assert info.get("search_aliases"), name
