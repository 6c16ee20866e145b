"""The place of a process among those that torchrun started is read from the environment."""

from pathlib import Path

from modswap.core.launch import Launch, launch, shared_folder

OF_TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_ERROR_FILE": "run/attempt_0/1/error.json",
}


def test_launch_is_that_of_torchrun_alone() -> None:
    assert launch(OF_TORCHRUN) == Launch(rank=3, world=4, local=1, beside=2)
    assert not launch(OF_TORCHRUN).first
    other = {name: text for name, text in OF_TORCHRUN.items() if name != "TORCHELASTIC_RUN_ID"}
    assert launch(other) == Launch(rank=0, world=1, local=0, beside=1)
    assert launch(other).first


def test_shared_folder_is_that_of_all_processes_of_a_start() -> None:
    assert shared_folder(OF_TORCHRUN) == Path("run/attempt_0")
    assert shared_folder({**OF_TORCHRUN, "TORCHELASTIC_ERROR_FILE": ""}) is None
    assert shared_folder({**OF_TORCHRUN, "WORLD_SIZE": "1"}) is None
