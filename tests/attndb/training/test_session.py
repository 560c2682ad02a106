"""A session trains wherever a workbench is: here on the tiny model, without nodes and server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support.tiny_workbench import TinyWorkbench, request_of

from attndreambooth.attndb.artifacts.concept import TrainedConcept
from attndreambooth.attndb.artifacts.lineage import lineage
from attndreambooth.attndb.artifacts.tensor_file import read_tensors
from attndreambooth.attndb.artifacts.weight_delta import dense
from attndreambooth.attndb.config.compared import UNTIED, published
from attndreambooth.attndb.config.optimizer import OptimizerConfig
from attndreambooth.attndb.data.caption import captioned
from attndreambooth.attndb.data.tokens import TokenizedText
from attndreambooth.attndb.training.ranks import Ranks
from attndreambooth.attndb.training.session import code_versions, train_stage
from attndreambooth.devkit.tiny_model import prompt_of


@pytest.fixture
def request_(host):
    return request_of()


def run_json(folder):
    [path] = folder.glob("*/run.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_stage_is_trained_recorded_and_answered_from_its_folder(tmp_path, request_):
    bench = TinyWorkbench(tmp_path)
    concept, losses = train_stage(bench, request_)
    assert len(losses) == 3 and concept.delta and concept.text_key == "clip_l"
    again, same = train_stage(bench, request_)
    assert bench.models == 1, "a finished stage loads nothing"
    assert again.digest() == concept.digest() and same == losses
    asked = run_json(tmp_path)
    assert asked["schedule_sha256"] == "11" and asked["code_version"] >= 1
    assert concept.record["prediction_type"] == "epsilon"


def test_a_result_is_kept_in_the_precision_of_its_concept(tmp_path, request_):
    whole, half = TinyWorkbench(tmp_path / "fp32"), TinyWorkbench(tmp_path / "fp16")
    half.weights_dtype = torch.float16
    exact, _ = train_stage(whole, request_)
    concept, _ = train_stage(half, request_)
    cast = replace(
        exact, delta={name: dense(change).half() for name, change in exact.delta.items()}
    )
    assert concept.digest() == cast.digest() != exact.digest()
    assert train_stage(half, request_)[0].digest() == concept.digest()
    [kept] = half.folder.glob("*/result.safetensors")
    tensors, _ = read_tensors(kept)
    assert {t.dtype for name, t in tensors.items() if name.startswith("delta.")} == {torch.float16}


def test_a_result_kept_whole_answers_a_model_in_half_precision(tmp_path, request_):
    """As all of them once were."""
    bench = TinyWorkbench(tmp_path)
    exact, _ = train_stage(bench, request_)
    bench.weights_dtype = torch.float16
    concept, _ = train_stage(bench, request_)
    cast = replace(
        exact, delta={name: dense(change).half() for name, change in exact.delta.items()}
    )
    assert concept.digest() == cast.digest() and bench.models == 1


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"micro_batch": 1}, True),
        ({"gradient_checkpointing": "full"}, True),
        ({"seed": 1}, False),
        ({"lora_rank": 2}, False),
        ({"low_memory": True, "precision": "auto"}, False),
    ],
)
def test_what_only_says_how_finds_the_same_run(tmp_path, request_, change, known):
    bench = TinyWorkbench(tmp_path)
    train_stage(bench, request_)
    train_stage(bench, replace(request_, config=request_.config.with_(**change)))
    assert (bench.models == 1) == known


class Alone(Ranks):
    """Notes what all processes of a training have to agree on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict] = []

    def check_same(self, asked):
        self.asked.append(asked)


def test_processes_that_would_part_a_batch_otherwise_are_not_asked_for_the_same(tmp_path, request_):
    bench = TinyWorkbench(tmp_path)
    bench.ranks = Alone()
    size = request_.config.batch_size
    for micro_batch in (0, size, 1):
        train_stage(bench, replace(request_, config=request_.config.with_(micro_batch=micro_batch)))
    whole, the_same, other = bench.ranks.asked
    assert whole == the_same != other
    assert bench.models == 1, "for a process alone they are one run"


@pytest.mark.parametrize(
    ("change", "version"),
    [({}, 1), ({"lora_rank": 2}, 4), ({"stage": 1, "lora_rank": 2}, 1)],  # stage 1 trains no LoRA
)
def test_only_a_lora_is_a_run_of_the_code_that_changed_it(tmp_path, request_, change, version):
    config = request_.config.with_(steps=1, **change)
    train_stage(TinyWorkbench(tmp_path), replace(request_, config=config))
    assert run_json(tmp_path)["code_version"] == version


def test_a_run_of_a_method_whose_code_changed_is_another_one(tmp_path, request_):
    untied = {"regularization": UNTIED, "stage": 1, "steps": 1}
    for method, version in (("custom_diffusion", 2), ("ti_dreambooth", None)):
        config = request_.config.with_(method=method, **untied)
        train_stage(TinyWorkbench(tmp_path / method), replace(request_, config=config))
        assert run_json(tmp_path / method).get("method_version") == version


def test_memory_is_said_for_the_prompts_that_are_trained_on(tmp_path, request_):
    """Each prompt of a batch has a pass of its own through a text encoder that learns."""

    class Counting(TinyWorkbench):
        def tokenize_prompts(self, dataset, vectors, prompts):
            tokens = prompt_of(vectors=vectors).tokens
            return tuple(TokenizedText(prompt, tokens) for prompt in prompts)

        def fit_to_memory(self, model, choices, prompts, *rest):
            self.prompts = prompts
            return super().fit_to_memory(model, choices, prompts, *rest)

    bench, inverted = Counting(tmp_path), published("textual_inversion")
    config = request_.config.with_(
        method="textual_inversion", stage=1, steps=1, regularization=UNTIED, words=inverted.words
    )
    train_stage(bench, replace(request_, config=config))
    assert len(bench.prompts) == 27


def test_a_run_of_neti_is_another_one_only_in_several_shapes():
    plain = published("neti")
    shapes = plain.with_(data=replace(plain.data, aspect_buckets=True))
    assert "method_version" not in code_versions(plain)
    assert code_versions(shapes)["method_version"] == 2


def test_what_goes_on_from_an_imported_concept_descends_from_it_and_names_its_base(
    tmp_path, request_, caplog
):
    trained, _ = train_stage(TinyWorkbench(tmp_path), request_)
    imported = TrainedConcept(
        placeholder=request_.dataset.placeholder,
        category=request_.dataset.category,
        text_key="clip_l",
        vectors=torch.full_like(trained.vectors, 0.1),
        record={"imported": {"embedding": "a.pt"}, "stages": []},
    )
    caplog.clear()
    one, _ = train_stage(TinyWorkbench(tmp_path), replace(request_, concept=imported))
    two, _ = train_stage(TinyWorkbench(tmp_path), replace(request_, concept=one))
    assert lineage(imported).key == lineage(one).key == lineage(two).key
    assert one.record["prediction_type"] == "epsilon" and one.record["schedule_sha256"] == "11"
    assert "another" not in caplog.text, "nobody knows on which checkpoint it was trained"


def test_captions_make_another_run_and_are_in_the_record(tmp_path, request_):
    bench = TinyWorkbench(tmp_path)
    photos = captioned(request_.dataset.photos, ["a {} here", "", "a {} there"])
    dataset = replace(request_.dataset, photos=photos, template="a {}\nthe {}")
    concept, losses = train_stage(bench, replace(request_, dataset=dataset))
    again, same = train_stage(bench, replace(request_, dataset=dataset))
    assert bench.models == 1 and same == losses and again.digest() == concept.digest()
    recorded = concept.record
    assert [p.get("caption") for p in recorded["photos"]] == ["a {} here", None, "a {} there"]
    assert recorded["templates"] == ["a {}", "the {}"] and recorded["prompt"] == "a <my-doll> doll"
    plain, _ = train_stage(bench, request_)
    assert bench.models == 2 and "templates" not in plain.record


def auto(request_):
    config = request_.config.with_(precision="auto")
    return replace(request_, config=config, low_memory_if_needed=True)


def test_low_memory_comes_by_itself_where_it_is_needed_and_is_recorded(tmp_path, request_):
    roomy = TinyWorkbench(tmp_path / "roomy")
    small = TinyWorkbench(tmp_path / "small", fits=lambda config: config.low_memory)
    plain, _ = train_stage(roomy, auto(request_))
    low, _ = train_stage(small, auto(request_))
    assert not plain.record["stages"][0]["low_memory"]
    assert low.record["stages"][0]["low_memory"]
    assert run_json(tmp_path / "small")["config"]["low_memory"]


def test_a_run_goes_on_as_it_began_whatever_memory_there_is(tmp_path, request_):
    small = TinyWorkbench(tmp_path, fits=lambda config: config.low_memory)
    first, _ = train_stage(small, auto(request_))
    roomy = TinyWorkbench(tmp_path)
    again, _ = train_stage(roomy, auto(request_))
    assert again.digest() == first.digest() and roomy.models == 0


def test_settings_that_low_memory_does_not_go_with_are_left_as_they_are(request_):
    clipped = request_.config.with_(
        stage=3, precision="auto", optimizer=OptimizerConfig(learning_rate=1e-3, clip_norm=1.0)
    )
    choices = replace(request_, config=clipped, low_memory_if_needed=True).choices
    assert choices == [clipped]


def test_another_method_has_a_run_folder_and_a_record_of_its_own(tmp_path, request_):
    joint = request_.config.with_(method="ti_dreambooth", stage=1)
    concept, losses = train_stage(TinyWorkbench(tmp_path), replace(request_, config=joint))
    [folder] = tmp_path.iterdir()
    assert "ti_dreambooth" in folder.name
    assert concept.record["stages"][0]["method"] == "ti_dreambooth"
    assert len(losses) == 3 and concept.delta
    again, _ = train_stage(TinyWorkbench(tmp_path), replace(request_, config=joint))
    assert again.record == concept.record and "embedding_cosine" in again.record["stages"][0]


def test_the_photos_of_a_private_dataset_are_not_in_the_record(tmp_path, request_):
    private = replace(request_, dataset=replace(request_.dataset, private=True))
    concept, _ = train_stage(TinyWorkbench(tmp_path), private)
    assert "thumbnail" not in concept.record
    assert all(set(photo) == {"sha256"} for photo in concept.record["photos"])
