"""A file of subjects is read as it is meant, and all that is wrong with it is said at once."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from attndreambooth.attndb.config.compared import COMPARED, published
from attndreambooth.attndb.config.presets import PRESETS, fast, micro, paper
from attndreambooth.attndb.jobs.job import MICRO
from attndreambooth.attndb.jobs.job_file import JobFileError, read_jobs
from attndreambooth.devkit.pack import ROOT

ONE = """
model: micro
subjects:
  - photos: {folder: photos, category: dog}
"""


@pytest.fixture
def write(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")

    def written(text: str):
        path = tmp_path / "jobs.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def problems(path) -> list[tuple[int, str]]:
    with pytest.raises(JobFileError) as caught:
        read_jobs(path)
    return [(p.line, p.text) for p in caught.value.problems]


def test_the_least_that_can_be_said_is_the_published_recipe(write, tmp_path):
    [job] = read_jobs(write(ONE))
    assert job.stages == paper()
    assert (job.name, job.photos.placeholder) == ("my-photos", "<my-photos>")
    assert job.photos.folder == tmp_path / "photos"
    assert job.model.checkpoint == MICRO


def test_settings_reach_every_stage_and_a_stage_says_its_own(write):
    text = """
model: {checkpoint: v1-5.safetensors}
defaults:
  settings: {seed: 7, weight_anchor: 50, data: {resolution: 256}}
subjects:
  - photos: {folder: photos, category: dog}
    preset: fast
    settings: {data: {flip: no}, optimizer: {learning_rate: 1e-3, betas: [0.8, 0.99]}}
    stages: [1, {stage: 3, steps: 3, weight_anchor: 9, optimizer: {name: AdamW 8-bit}}]
"""
    [job] = read_jobs(write(text))
    first, third = job.stages
    for config, before in ((first, fast()[0]), (third, fast()[2])):
        assert config.seed == 7
        assert (config.data.resolution, config.data.flip) == (256, False)
        assert config.optimizer.learning_rate == 1e-3 and config.optimizer.betas == (0.8, 0.99)
        assert config.regularization == before.regularization
    assert (first.steps, first.weight_anchor) == (60, 0)  # it trains no weights to be held
    assert (third.steps, third.weight_anchor, third.optimizer.name) == (3, 9, "AdamW 8-bit")
    assert first.optimizer.name == "AdamW"


@pytest.mark.parametrize("method", COMPARED)
def test_every_compared_method_can_be_asked_for(write, method):
    text = ONE + f"    method: {method}\n    settings: {{steps: 5}}\n"
    [job] = read_jobs(write(text))
    assert job.stages == (published(method).with_(steps=5),)


def test_what_a_subject_says_comes_before_the_defaults(write):
    text = """
defaults: {model: micro, preset: micro, checkpoint_every: 9, photos: {category: dog}}
subjects:
  - {name: a, photos: {folder: photos}}
  - {name: b, photos: {folder: photos, category: cat}, method: oft, checkpoint_every: 0}
"""
    one, other = read_jobs(write(text))
    assert one.stages == micro() and other.stages == (published("oft"),)
    assert (one.photos.category, other.photos.category) == ("dog", "cat")
    assert (one.checkpoint_every, other.checkpoint_every) == (9, 0)


def test_templates_are_a_text_or_a_list(write):
    text = (
        ONE + "  - {name: b, photos: {folder: photos, category: cat, template: ['a {}', 'b {}']}}"
    )
    one, other = read_jobs(write(text))
    assert one.photos.template == "a photo of a {}" and other.photos.template == "a {}\nb {}"


def test_a_preview_draws_a_prompt_or_a_list_and_may_have_a_negative(write):
    drawn = "negative: blurry, sampler_name: euler, scheduler: karras"
    text = ONE + f"    preview: {{prompt: ['a {{}}', '{{}} in space'], {drawn}}}\n"
    [job] = read_jobs(write(text))
    assert job.preview is not None
    assert (job.preview.sampler_name, job.preview.scheduler) == ("euler", "karras")
    assert (job.preview.prompt, job.preview.negative) == ("a {}\n{} in space", "blurry")


def test_loras_in_front_of_a_training_are_names_or_have_strengths(write):
    text = ONE.replace(
        "model: micro",
        "model: {checkpoint: a.safetensors, loras: [b.safetensors, {name: c, strength: -0.5}, "
        "{name: d, strength: 1, clip_strength: 0}]}",
    )
    [job] = read_jobs(write(text))
    found = [(lora.name, lora.strength, lora.clip_strength) for lora in job.model.loras]
    assert found == [("b.safetensors", 1.0, None), ("c", -0.5, None), ("d", 1.0, 0.0)]
    [bare] = read_jobs(write(ONE))
    assert bare.model.loras == ()


def test_everything_wrong_with_loras_is_said_at_once_with_its_line(write):
    text = """model:
  checkpoint: a.safetensors
  loras:
    - {name: b, strenght: 1}
    - {strength: 0.5}
    - name: c
      strength: much
      clip_strength: .inf
    - [d]
    - {name: ""}
subjects:
  - photos: {folder: photos, category: cat}
  - name: b
    model: {checkpoint: a.safetensors, loras: d}
    photos: {folder: photos, category: cat}
"""
    found = problems(write(text))
    expected = {
        4: "unknown key 'strenght' in loras: did you mean strength",
        5: "a LoRA has no name: give that of a file in models/loras",
        7: "strength = 'much': a number is wanted",
        8: "clip_strength = '.inf': a number is wanted",
        9: "loras = a list: keys are wanted below it",
        10: "a LoRA has no name",
        14: "loras = 'd': a list is wanted",
    }
    for line, said in expected.items():
        assert any(n == line and said in told for n, told in found), (line, found)
    assert {n for n, _ in found} == set(expected)


def test_everything_wrong_is_said_at_once_with_its_line(write):
    text = """modle: micro
defaults:
  settings: {sead: 1}
subjects:
  - name: a
    photos: {folder: nowhere, category: ""}
    settings:
      steps: many
      seed: 1.5
      precision: fp8
      data: 512
      batch_size: 0
    checkpoint_every: -1
  - name: a
    photos: {folder: photos, category: dog, masks: painted, private: maybe}
    stages: [1, 4, {stage: 2, stepz: 3}]
    save: {precision: fp32, format: x}
  - 7
"""
    found = problems(write(text))
    expected = {
        1: "unknown key 'modle' in the file: did you mean model?",
        3: "unknown key 'sead' in settings: did you mean seed?",
        5: "no model",
        6: "folder .*nowhere does not exist",
        8: "steps = 'many': a whole number is wanted",
        9: "seed = '1.5': a whole number is wanted",
        10: "precision = 'fp8': choose one of auto, fp32, bf16",
        11: "data = '512': keys are wanted below it",
        12: "batch_size = 0: use 1 or more",
        13: "checkpoint_every = -1: use 0 or more",
        15: "masks = 'painted': choose one of none, alpha, files",
        16: "a stage is one of 1, 2, 3",
        17: "unknown key 'format' in save",
        18: "subjects = '7': keys are wanted below it",
    }
    for line, text in expected.items():
        assert any(n == line and re.search(text, said) for n, said in found), (line, found)
    assert any(n == 6 and said.startswith("category is empty: type") for n, said in found)
    assert any(n == 15 and "private = 'maybe': true or false" in said for n, said in found)
    assert any(n == 16 and "'stepz' in stages: did you mean steps" in said for n, said in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("subjects: [", 1, "not YAML"),
        ("", 1, "holds no keys"),
        ("- a", 1, "holds no keys"),
        ("model: micro", 1, "no subject"),
        ("model: micro\nsubjects: []", 2, "no subject"),
        ("model: micro\nsubjects:\n", 2, "a list is wanted"),
        (
            "model: micro\nmodel: micro\nsubjects: [{photos: {folder: photos, category: a}}]",
            2,
            "twice",
        ),
        (ONE.replace("micro", "macro"), 2, "say micro"),
        (ONE + "    steps: 3\n", 5, "unknown key 'steps'"),
        (ONE + "    method: oft\n    preset: fast\n", 6, "leave one out"),
        (ONE + "    method: lora\n", 5, "choose one of"),
        (ONE + "    name: a/../b\n", 5, "cannot be a file name"),
        (ONE + "    name: ''\n", 5, "name '' cannot be a file name"),
        (ONE.replace("dog}", "dog, placeholder: <>}"), 4, "name '' cannot be a file name"),
        (ONE.replace("dog}", "dog, template: ''}"), 4, "template '' needs {} exactly once"),
        (ONE + "    settings: {steps: '5'}\n", 5, "a whole number is wanted, so take the quotes"),
        (ONE + "    settings: {steps: }\n", 5, "has no value"),
        (ONE + "    settings: {optimizer: {learning_rate: .inf}}\n", 5, "a number is wanted"),
        (ONE + "    settings: {optimizer: {betas: [1]}}\n", 5, "has 1 values, and 2 are wanted"),
        (ONE + "    settings: {low_memory: true, precision: fp32}\n", 5, "computes in bf16"),
        (ONE + ONE[ONE.index("  - ") :], 5, "two subjects are called"),
        (ONE + "    preview:\n      every: 0\n", 6, "every = 0: use 1 training step or more"),
        (ONE + f"    preview:\n      seed: {2**64}\n", 6, f"seed = {2**64}: use 0 to {2**64 - 1}"),
        (ONE + "    preview:\n      height: 4\n", 6, "height = 4: use 8 pixels or more"),
        (ONE + f"    preview:\n      prompt: [{'a, ' * 25}]\n", 6, "prompt has 25 lines, and 24"),
    ],
)
def test_a_file_that_is_wrong_is_named_by_its_line(write, text, line, said):
    found = problems(write(text))
    assert any(n == line and said in told for n, told in found), found


@pytest.mark.parametrize("prompt", ["''", "[]"])
def test_a_preview_of_an_empty_prompt_is_one_and_not_the_default(write, prompt):
    [job] = read_jobs(write(ONE + f"    preview: {{prompt: {prompt}}}\n"))
    assert job.preview is not None and job.preview.prompt == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "    method: oft\n    settings: {regularization: {mean_weight: 3}}\n",
            "regularization: oft has none, attndreambooth has; leave it out",
        ),
        ("    method: oft\n    settings: {mapper: {bypass: no}}\n", "mapper: oft has none, neti"),
        ("    preset: fast\n    settings: {mapper: {bypass: no}}\n", "mapper: attndreambooth has"),
        (
            "    method: textual_inversion\n    settings: {lora_rank: 4}\n",
            "lora_rank: textual_inversion trains no weights",
        ),
        ("    method: neti\n    settings: {lora_rank: 4}\n", "lora_rank: neti trains no weights"),
        (
            "    method: vico\n    settings: {orthogonal: {blocks: 2}}\n",
            "orthogonal: vico has none",
        ),
        ("    stages: [1]\n    settings: {lora_rank: 4}\n", "lora_rank: stage 1 trains no weights"),
        ("    stages: [{stage: 1, lora_rank: 4}, 2]\n", "lora_rank: stage 1 trains no weights"),
        ("    prior: {folder: photos, weight: -1}\n", "weight = -1: must be above 0"),
        ("    prior: {folder: photos, prompt: a cat}\n", "does not contain the category 'dog'"),
        ("    prior: {folder: photos, prompt: a <my-photos> dog}\n", "contains the placeholder"),
        ("    settings: {regularization: {inside_mask: yes}}\n", "say masks: files or alpha"),
        ("    settings: {steps: 1__0}\n", "steps = '1__0': a whole number is wanted"),
        (f"    settings: {{seed: 1{'0' * 400}}}\n", "a whole number is wanted"),
    ],
)
def test_what_a_training_would_not_read_or_would_refuse_is_said_before_it(write, text, said):
    assert any(said in told for _, told in problems(write(ONE + text)))
    assert len(problems(write(ONE + text))) == 1


@pytest.mark.parametrize(
    ("photos", "said"),
    [
        ("masks: files", "masks is 'files', and .* holds none"),
        ("captions: text files", "captions is 'text files', and .* holds none"),
        ("captions: plain text files", "captions is 'plain text files', and .* holds none"),
        ("trigger: sks", "trigger is read with captions: plain text files alone"),
        ("folder: ~nobody-of-this-name/photos", "does not exist"),
    ],
)
def test_a_folder_that_lacks_what_is_said_of_it_is_named(write, photos, said):
    key = photos.partition(":")[0]
    text = ONE.replace("{folder: photos, ", "{" if key == "folder" else "{folder: photos, ")
    [(line, told)] = problems(write(text.replace("dog}", f"dog, {photos}}}")))
    assert line == 4 and re.search(said, told)


def test_settings_of_the_defaults_are_left_out_where_a_subject_has_its_own_method(write):
    text = """
model: micro
defaults:
  photos: {folder: photos, category: dog}
  settings: {lora_rank: 8, regularization: {variance_weight: 4}}
subjects:
  - {name: a, preset: micro}
  - {name: b, method: textual_inversion}
"""
    one, _ = read_jobs(write(text))
    assert [config.lora_rank for config in one.stages] == [8, 8, 8]
    assert {config.regularization.variance_weight for config in one.stages} == {4}
    text = text.replace("preset: micro", "settings: {mapper: {bypass: no}}")
    assert [told for _, told in problems(write(text))] == [
        "mapper: attndreambooth has none, neti has; leave it out"
    ]


@pytest.mark.parametrize("name", ["~nobody-of-this-name.safetensors", "x" * 300, "a/" * 3000])
def test_a_checkpoint_that_can_be_no_path_is_a_name(write, name):
    [job] = read_jobs(write(ONE.replace("model: micro", f"model: {{checkpoint: {name}}}")))
    assert job.model.checkpoint == name


def test_a_value_that_stands_for_itself_does_not_hang(write):
    found = problems(write(ONE + "    settings: &a {data: *a}\n"))
    assert found


def test_the_document_names_every_preset_and_method():
    text = (ROOT / "docs" / "headless.md").read_text(encoding="utf-8")
    for key, names in (("preset", PRESETS), ("method", COMPARED)):
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        assert set(re.findall(r"`([\w-]+)`", line)) == {key, *names}


def test_the_examples_of_the_document_are_right(write, tmp_path):
    text = (ROOT / "docs" / "headless.md").read_text(encoding="utf-8")
    *examples, of_folders = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        for folder in re.findall(r"folder: ([\w/-]+)", example):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), "red").save(tmp_path / folder / "a.png")
        assert len(read_jobs(write(example))) == 2
    for name in ("rex", "garfield"):
        (tmp_path / "all" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), "red").save(tmp_path / "all" / name / "a.png")
    cat, dog = read_jobs(write(of_folders), tmp_path / "all")
    assert (cat.name, cat.photos.category) == ("garfield-2", "cat")
    assert (dog.name, dog.photos.category) == ("my-rex", "dog")
