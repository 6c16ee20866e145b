"""What code of a library cannot reach while it builds a model."""

import ctypes
import os
import pickle
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from modswap.core.errors import UnsafeError
from modswap.ops.load.closed import ClosedError, closed_off


class Server:
    """A server on this machine, which counts who comes."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]

    def visitors(self) -> int:
        """Return how many have come since the last call."""
        self.listening.settimeout(0)
        count = 0
        try:
            while True:
                self.listening.accept()[0].close()
                count += 1
        except BlockingIOError:
            return count


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.listening.close()


def connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def connect_by_method(port: int) -> None:
    with socket.socket() as made:
        made.connect(("127.0.0.1", port))


def connect_below(port: int) -> None:
    made = import_module("_socket").socket()
    try:
        made.connect(("127.0.0.1", port))
    finally:
        made.close()


def connect_by_address(port: int) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.05)


def connect_in_a_thread(port: int) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            connect(port)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


WAYS = [connect, connect_by_method, connect_below, connect_by_address, connect_in_a_thread]


@pytest.mark.parametrize("way", WAYS)
def test_network_is_closed_and_open_again_afterwards(
    way: Callable[[int], None], server: Server
) -> None:
    told = "^net: to build its model, it asked for the network"
    with pytest.raises(UnsafeError, match=told), closed_off("net"):
        way(server.port)
    assert server.visitors() == 0

    connect(server.port)
    assert server.visitors() == 1


def test_open_connection_of_before_is_closed_too(server: Server) -> None:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    with made, pytest.raises(UnsafeError, match=r"socket\.sendto"), closed_off("net"):
        made.sendto(b"x", ("127.0.0.1", server.port))


def test_thread_of_the_user_goes_on(server: Server) -> None:
    start, done = threading.Event(), threading.Event()

    def run() -> None:
        start.wait(10)
        connect(server.port)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    with closed_off("net"):
        start.set()
        thread.join()

    assert done.is_set()
    assert server.visitors() == 1


def write(file: Path) -> None:
    file.write_text("x")


def read(file: Path) -> None:
    Path(__file__).parents[3].joinpath("pyproject.toml").read_text()


def read_beside_code(file: Path) -> None:
    file.with_name("evil.json").read_text()


def run_program(file: Path) -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def run_shell(file: Path) -> None:
    os.system(f"touch {file}")


def unpickle(file: Path) -> None:
    pickle.loads(b"cposix\nsystem\n.")


def make_folder(file: Path) -> None:
    file.mkdir()


def remove(file: Path) -> None:
    file.unlink()


def link(file: Path) -> None:
    file.symlink_to("/etc/passwd")


def swallow(file: Path) -> None:
    try:
        file.write_text("x")
    except OSError:
        raise ValueError("not found, says the library") from None


@pytest.mark.parametrize(
    ("way", "what"),
    [
        (write, "asked to write the file"),
        (read, "asked for the file"),
        (read_beside_code, "asked for the file"),
        (run_program, "asked to run a program"),
        (run_shell, "asked to run a program"),
        (unpickle, r"read a pickle, which asks for posix\.system"),
        (make_folder, "asked to change files"),
        (remove, "asked to change files"),
        (link, "asked to change files"),
        (swallow, "asked to write the file"),
    ],
)
def test_files_programs_and_pickles_are_closed(
    way: Callable[[Path], None], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))  # as the folder of a script is

    with pytest.raises(UnsafeError, match=what), closed_off("net"):
        way(tmp_path / "made")

    assert [*tmp_path.iterdir()] == [tmp_path / "evil.json"]


def test_code_and_data_of_installed_packages_may_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_module.py").write_text("HERE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with closed_off("net"):
        assert import_module("late_module").HERE == 1
        assert Path(os.__file__).read_bytes()
        assert Path(pytest.__file__).read_bytes()
        assert Path("/dev/null").write_bytes(b"x") == 1
        for end in os.pipe():
            os.fdopen(end).close()  # a descriptor has no path
        assert ctypes.sizeof(ctypes.c_int) == 4
    del sys.modules["late_module"]


def test_error_without_a_question_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="a fault of the library"), closed_off("net"):
        raise ValueError("a fault of the library")


def test_question_that_the_library_lives_without_is_no_error(tmp_path: Path) -> None:
    with closed_off("net"), pytest.raises(ClosedError):
        write(tmp_path / "x")


@pytest.mark.parametrize("before", [None, "0"])
def test_libraries_stay_offline(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if before is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)

    with closed_off("net"):
        assert os.environ["HF_HUB_OFFLINE"] == "1"

    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_empty_folder_of_torchs_compiler_may_be_made_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = tmp_path / "torchinductor_me"

    with closed_off("net.pt"):
        own.mkdir()  # as importing torch._dynamo does
        for other in (tmp_path / "me", own / "torchinductor_me", tmp_path.parent / own.name):
            with pytest.raises(ClosedError):
                other.mkdir()
        with pytest.raises(ClosedError):
            own.rmdir()

    assert [file.name for file in tmp_path.iterdir()] == [own.name]
