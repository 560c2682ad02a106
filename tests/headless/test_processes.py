"""Which subjects a process trains, and on which card; where ComfyUI is looked for."""

from __future__ import annotations

import pytest

from attndreambooth.headless.host import HostMissingError, choose_card, host_folder, kind_of_card
from attndreambooth.headless.processes import processes

SUBJECTS = ["a", "b", "c", "d", "e"]


def test_every_subject_is_trained_by_one_process():
    parts = [processes(f"{rank}/3", False, {}).own(SUBJECTS) for rank in range(3)]
    assert parts == [["a", "d"], ["b", "e"], ["c"]]
    ranks = [
        processes("", False, {"RANK": str(rank), "WORLD_SIZE": "2"}).own(SUBJECTS)
        for rank in range(2)
    ]
    assert ranks == [["a", "c", "e"], ["b", "d"]]
    assert processes("", False, {}).own(SUBJECTS) == SUBJECTS


def test_together_all_train_each_and_the_first_writes():
    first, second = (
        processes("", True, {"RANK": str(rank), "WORLD_SIZE": "2"}) for rank in range(2)
    )
    assert first.own(SUBJECTS) == second.own(SUBJECTS) == SUBJECTS
    assert first.writes and not second.writes


@pytest.mark.parametrize(
    ("part", "together", "said"),
    [
        ("3/3", False, "say 0/4"),
        ("a", False, "say 0/4"),
        ("0/2", True, "one process"),
        ("", True, "torchrun"),
    ],
)
def test_what_cannot_be_is_said(part, together, said):
    with pytest.raises(ValueError, match=said):
        processes(part, together, {})


CUDA, HIP, ZE = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"


@pytest.mark.parametrize(
    ("before", "local", "card"),
    [(None, "1", "1"), ("4,7", "1", "7"), ("4", "1", "4"), ("", "1", "")],
)
@pytest.mark.parametrize(("kind", "name"), [("cuda", CUDA), ("hip", HIP), ("xpu", ZE)])
def test_a_process_sees_its_own_card(kind, name, before, local, card):
    environ = {"LOCAL_RANK": local, **({} if before is None else {name: before})}
    choose_card(environ, kind)
    assert environ[name] == card
    others = {CUDA, HIP, ZE} - {name} - ({CUDA} if kind == "hip" and card else set())
    assert not others & environ.keys()


def test_amd_s_two_variables_are_one():
    environ = {"LOCAL_RANK": "1", CUDA: "4,7"}
    choose_card(environ, "hip")
    assert environ[HIP] == environ[CUDA] == "7"
    environ = {"LOCAL_RANK": "1", CUDA: "4,7", HIP: "2,3"}
    choose_card(environ, "hip")
    assert environ[HIP] == environ[CUDA] == "3"


@pytest.mark.parametrize(
    ("named", "local", "card"),
    [({}, "0", "0"), ({}, "1", "1"), ({}, "3", "1"), ({HIP: "1"}, "2", "1"), ({HIP: "2"}, "0", "")],
)
def test_of_the_cards_that_amd_s_driver_leaves_one_is_named(named, local, card):
    """Numbers above them would name none, and the process would train on the CPU."""
    environ = {"LOCAL_RANK": local, "ROCR_VISIBLE_DEVICES": "4,7", **named}
    if not card:
        with pytest.raises(ValueError, match=r"leaves 2 GPUs.* names GPU 2"):
            choose_card(environ, "hip")
        return
    choose_card(environ, "hip")
    assert environ[HIP] == environ[CUDA] == card
    assert environ["ROCR_VISIBLE_DEVICES"] == "4,7"


def test_amd_s_driver_may_hide_all_and_is_not_asked_of_other_cards():
    hidden = {"LOCAL_RANK": "1", "ROCR_VISIBLE_DEVICES": ""}
    choose_card(hidden, "hip")
    assert HIP not in hidden
    environ = {"LOCAL_RANK": "3", "ROCR_VISIBLE_DEVICES": "0"}
    choose_card(environ, "cuda")
    assert environ[CUDA] == "3"


@pytest.mark.parametrize("built", ["cuda", "hip", "xpu", ""])
def test_the_kind_of_card_is_read_of_pytorch_without_importing_it(tmp_path, built):
    said = {name: "'6.4.4-1'" if name == built else "None" for name in ("cuda", "hip", "xpu")}
    lines = [f"{name}: Optional[str] = {value}" for name, value in said.items()]
    version = tmp_path / "version.py"
    version.write_text("\n".join(["__version__ = '2.11.0'", *lines, "rocm: Optional[str] = None"]))
    assert kind_of_card(version) == (built or "cuda")
    assert kind_of_card(tmp_path / "missing.py") == "cuda"


def test_the_kind_of_card_is_this_pytorch_s():
    import torch

    built = "hip" if torch.version.hip else "xpu" if torch.version.xpu else "cuda"
    assert kind_of_card() == built


def test_comfyui_is_the_one_named_or_around_or_fetched(tmp_path):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "attndreambooth"
    pack.mkdir(parents=True)
    with pytest.raises(HostMissingError, match="set COMFYUI_PATH"):
        host_folder({}, pack)
    for version in ("0.9.1", "0.30.0"):
        fetched = pack / ".host" / f"ComfyUI-{version}"
        fetched.mkdir(parents=True)
        (fetched / "main.py").touch()
    assert host_folder({}, pack) == fetched
    (tmp_path / "ComfyUI" / "main.py").touch()
    assert host_folder({}, pack) == tmp_path / "ComfyUI"
    assert host_folder({"COMFYUI_PATH": str(fetched)}, pack) == fetched
    with pytest.raises(HostMissingError, match="there is no ComfyUI in it"):
        host_folder({"COMFYUI_PATH": str(tmp_path)}, pack)


def _array(task, count=3, **more):
    named = {"ID": task, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in named.items()}


def test_tasks_of_an_array_share_the_subjects_of_a_folder():
    parts = [processes("", False, _array(n), array=True).own(SUBJECTS) for n in range(3)]
    assert parts == [["a", "d"], ["b", "e"], ["c"]]
    spread = [_array(n, MIN=4, STEP=2) for n in (4, 6, 8)]
    assert [processes("", False, e, array=True).own(SUBJECTS) for e in spread] == parts
    assert processes("", False, _array(1)).own(SUBJECTS) == SUBJECTS  # as asked for by --part
    assert processes("0/2", False, _array(1), array=True).own(SUBJECTS) == ["a", "c", "e"]


def test_torchrun_in_every_task_shares_further():
    found = [
        processes("", False, {**_array(task, 2), "RANK": str(rank), "WORLD_SIZE": "2"}, array=True)
        for task in range(2)
        for rank in range(2)
    ]
    assert [one.own(SUBJECTS) for one in found] == [["a", "e"], ["b"], ["c"], ["d"]]
    together = [
        processes("", True, {**_array(1, 2), "RANK": str(rank), "WORLD_SIZE": "2"}, array=True)
        for rank in range(2)
    ]
    assert [one.own(SUBJECTS) for one in together] == [["b", "d"], ["b", "d"]]
    assert [one.writes for one in together] == [True, False]


@pytest.mark.parametrize("environ", [_array(7, 3), _array(1, 0), _array(5, 3, MIN=4, STEP=2)])
def test_an_array_with_gaps_is_refused(environ):
    with pytest.raises(ValueError, match="without gaps"):
        processes("", False, environ, array=True)
