import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from http_files import FileServer, ServedFile
from pockettts_fast import http_cache
from pockettts_fast.errors import DownloadError, MissingFileError
from pockettts_fast.hub import AccessDeniedError, HubAddress, is_offline, path_part, resolve, scheme_of

CONTENT = bytes(range(256)) * 1024
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, no retry delays, no proxies and no setting of the surroundings."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http_cache, "_RETRY_DELAY_S", 0.001)
    return tmp_path / "xdg" / "pockettts-fast"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as running:
        yield running


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _fails(address: str | Path, kind: type[Exception] = DownloadError, what: str = "weights") -> str:
    with pytest.raises(kind) as caught:
        resolve(address, what=what)
    message = str(caught.value)
    assert what in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


# Local and packaged files


def test_a_local_file_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "naïve file @1.bin"
    path.write_bytes(b"x")
    assert resolve(path) == path
    assert resolve(str(path)) == path


def test_a_relative_path_belongs_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert resolve("a.bin") == Path("a.bin")


@pytest.mark.parametrize("address", ["no/such/file", "~/.profile", "ftp://host/file", "a\0b", "x" * 5000, ""])
def test_what_is_no_local_file_is_named(address: str) -> None:
    _fails(address, MissingFileError)


def test_another_scheme_lists_those_that_work() -> None:
    assert "https://" in _fails("s3://bucket/file", MissingFileError)


def test_folders_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    assert "folder" in _fails(tmp_path, MissingFileError)
    assert "regular" in _fails("/dev/null", MissingFileError)
    os.mkfifo(tmp_path / "pipe")
    assert "regular" in _fails(tmp_path / "pipe", MissingFileError)


def test_a_path_object_is_always_local() -> None:
    assert scheme_of(Path("hf://owner/name/file")) == ""
    _fails(Path("hf://owner/name/file"), MissingFileError)


def test_packaged_files_are_found_and_nothing_outside_is() -> None:
    assert resolve("package://configs/english.yaml").name == "english.yaml"
    for address in (
        "package://configs/none.yaml",
        "package://../pyproject.toml",
        "package:///etc/passwd",
        "package://",
        "package://configs",
        "package://a\0b",
    ):
        _fails(address, MissingFileError)


def test_the_path_part_has_no_query_and_no_revision() -> None:
    assert path_part("https://host/a/b.safetensors?token=x.wav#y") == "/a/b.safetensors"
    assert path_part("hf://o/n/b.safetensors@v1.0") == "hf://o/n/b.safetensors"
    assert path_part("./b@2.wav") == "./b@2.wav"
    assert path_part(Path("b.wav")) == "b.wav"


# The hub


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("hf://o/n/f.bin", HubAddress("o/n", "f.bin", None)),
        ("hf://o/n/a/b/f.bin@main", HubAddress("o/n", "a/b/f.bin", "main")),
        ("hf://o/n/f.bin@refs/pr/1", HubAddress("o/n", "f.bin", "refs/pr/1")),
    ],
)
def test_a_hub_address_has_three_parts(address: str, parsed: HubAddress) -> None:
    assert HubAddress.parse(address) == parsed


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://o",
        "hf://o/n",
        "hf://o/n/",
        "hf://o/n/f@",
        "hf://o/n/../../../etc/passwd",
        "hf://../n/f",
        "hf://o/../f",
        "hf://o/n//f",
        "hf://o/n/f@../x",
        "hf://o/n/f\0",
    ],
)
def test_a_malformed_hub_address_is_refused(address: str) -> None:
    with pytest.raises(DownloadError, match="malformed"):
        resolve(address)


def _cached_on_hub(folder: Path, revision: str = COMMIT) -> Path:
    path = folder / "models--owner--name" / "snapshots" / revision / "sub" / "file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return path


def _forbid_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(**arguments: Any) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", called)


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"])
def test_a_cached_commit_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    _forbid_hub(monkeypatch)
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    inner = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}.get(variable, "")
    path = _cached_on_hub(tmp_path / "elsewhere" / inner)
    assert resolve(f"hf://owner/name/sub/file.bin@{COMMIT}") == path


def test_a_cached_commit_does_not_even_import_the_hub_library(tmp_path: Path) -> None:
    _cached_on_hub(tmp_path / "hf" / "hub")
    code = (
        "import sys; from pockettts_fast.hub import resolve; "
        f"resolve('hf://owner/name/sub/file.bin@{COMMIT}'); "
        "sys.exit(any(name in sys.modules for name in ('huggingface_hub', 'urllib.request', 'http.client')))"
    )
    root = str(Path(http_cache.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "HF_HUB_OFFLINE": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_a_file_that_is_not_cached_is_asked_for_with_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(**arguments: Any) -> str:
        asked.update(arguments)
        return str(tmp_path / "got")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert resolve(f"hf://owner/name/sub/file.bin@{COMMIT}") == tmp_path / "got"
    assert asked == {
        "repo_id": "owner/name",
        "filename": "sub/file.bin",
        "revision": COMMIT,
        "cache_dir": tmp_path / "hf" / "hub",
        "local_files_only": False,
    }


def test_offline_names_the_variable_and_touches_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for value in ("1", "true", "YES", "on"):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        assert is_offline()
        assert "HF_HUB_OFFLINE" in _fails(f"hf://owner/name/f.bin@{COMMIT}")
        assert "HF_HUB_OFFLINE" in _fails("hf://owner/name/f.bin")
        assert "HF_HUB_OFFLINE" in _fails("https://127.0.0.1:9/f.bin")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not is_offline()


def test_offline_finds_a_branch_that_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _cached_on_hub(tmp_path / "hf" / "hub")
    refs = tmp_path / "hf" / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("hf://owner/name/sub/file.bin") == path
    assert resolve("hf://owner/name/sub/file.bin@main") == path


class _HubServer:
    """The part of the hub's protocol that downloading one file needs."""

    def __init__(self, server: FileServer) -> None:
        self.server = server

    def add(self, name: str, file: ServedFile, revision: str = COMMIT) -> str:
        file.headers.setdefault("X-Repo-Commit", COMMIT)
        self.server.add(f"/owner/name/resolve/{revision}/{name}", file)
        return f"hf://owner/name/{name}@{revision}"


@pytest.fixture
def hub_server(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> _HubServer:
    real = huggingface_hub.hf_hub_download

    def local(**arguments: Any) -> str:
        return str(real(**arguments, endpoint=server.base, etag_timeout=5, token=False))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", local)
    return _HubServer(server)


def test_a_hub_file_is_downloaded_once(hub_server: _HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    address = hub_server.add("f.bin", ServedFile(CONTENT))
    assert resolve(address).read_bytes() == CONTENT
    asked = len(hub_server.server.requests)
    assert resolve(address).read_bytes() == CONTENT
    assert len(hub_server.server.requests) == asked
    assert "%" not in capfd.readouterr().err  # no progress bar: this is no terminal


@pytest.mark.parametrize(
    ("status", "code", "kind", "word"),
    [
        (403, "GatedRepo", AccessDeniedError, "accept the terms"),
        (401, "GatedRepo", AccessDeniedError, "hf auth login"),
        (401, "RepoNotFound", AccessDeniedError, "HF_TOKEN"),
        (404, "RepoNotFound", AccessDeniedError, "check the name"),
        (403, "", AccessDeniedError, "HF_TOKEN"),
        (404, "RevisionNotFound", DownloadError, "revision"),
        (404, "EntryNotFound", DownloadError, "does not exist"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(
    hub_server: _HubServer, status: int, code: str, kind: type[DownloadError], word: str
) -> None:
    headers = {"X-Error-Code": code} if code else {}
    message = _fails(hub_server.add("f.bin", ServedFile(b"", status, headers)), kind)
    assert word in message
    assert "owner/name" in message
    with pytest.raises(DownloadError) as caught:
        resolve(hub_server.add("f.bin", ServedFile(b"", status, headers)))
    assert type(caught.value) is kind


def test_no_network_and_no_cache_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**arguments: Any) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("not here") from ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    assert "network" in _fails("hf://owner/name/f.bin")


def test_a_full_disk_names_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**arguments: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/f")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    assert "No space left" in _fails("hf://owner/name/f.bin")


# The web


def test_a_web_file_is_downloaded_once_under_its_digest(server: FileServer, cache: Path) -> None:
    url = server.add("/voice.wav", ServedFile(CONTENT)) + "?a=b"
    path = resolve(url)
    assert path == cache / (hashlib.sha256(url.encode()).hexdigest() + ".wav")
    assert path.read_bytes() == CONTENT
    assert resolve(url) == path
    assert len(server.requests) == 1
    assert _names(cache) == [path.name]


def test_an_odd_suffix_is_dropped(server: FileServer) -> None:
    assert resolve(server.add("/f." + "x" * 300, ServedFile(b"x"))).suffix == ""
    assert resolve(server.add("/f.w%2Fv", ServedFile(b"x"))).suffix == ""


def test_an_empty_file_and_one_without_length_are_complete(server: FileServer) -> None:
    assert resolve(server.add("/empty", ServedFile(b""))).read_bytes() == b""
    assert resolve(server.add("/open", ServedFile(CONTENT, says_length=False))).read_bytes() == CONTENT


def test_spaces_and_letters_beyond_ascii_are_encoded(server: FileServer) -> None:
    server.add("/a%20caf%C3%A9.bin", ServedFile(CONTENT))
    assert resolve(server.base + "/a café.bin").read_bytes() == CONTENT


def test_an_interrupted_download_goes_on_where_it_stopped(server: FileServer, cache: Path) -> None:
    url = server.add("/f.bin", ServedFile(CONTENT, cut_after=[1000, 2000]))
    assert resolve(url).read_bytes() == CONTENT
    ranges = [headers.get("Range") for _, headers in server.requests]
    assert ranges == [None, "bytes=1000-", "bytes=3000-"]
    assert len(_names(cache)) == 1


def test_a_later_call_resumes_what_an_earlier_one_left(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_cache, "_ATTEMPTS", 1)
    url = server.add("/f.bin", ServedFile(CONTENT, cut_after=[5000]))
    assert "incomplete" in _fails(url)
    assert all(".part" in name for name in _names(cache))
    assert resolve(url).read_bytes() == CONTENT
    assert server.requests[-1][1]["Range"] == "bytes=5000-"
    assert server.requests[-1][1]["If-Range"] == '"one"'
    assert len(_names(cache)) == 1


@pytest.mark.parametrize(
    "file",
    [
        ServedFile(CONTENT, cut_after=[1000], ranges=False),
        ServedFile(CONTENT, cut_after=[1000], etag=None),
        ServedFile(CONTENT, cut_after=[1000], etag='W/"weak"'),
        ServedFile(CONTENT, cut_after=[1000], lies_about_offset=True),
        ServedFile(CONTENT, cut_after=[0]),
    ],
    ids=["no ranges", "no validator", "weak validator", "wrong offset", "nothing arrived"],
)
def test_what_cannot_be_resumed_is_started_again(server: FileServer, file: ServedFile) -> None:
    assert resolve(server.add("/f.bin", file)).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed(server: FileServer) -> None:
    file = ServedFile(b"old" * 5000, cut_after=[4000])

    def change() -> None:
        if len(server.requests) == 2:
            file.content, file.etag = CONTENT, '"two"'

    file.on_request = change
    assert resolve(server.add("/f.bin", file)).read_bytes() == CONTENT


def test_a_part_as_long_as_the_file_is_started_again(server: FileServer, cache: Path) -> None:
    url = server.add("/f.bin", ServedFile(CONTENT))
    name = hashlib.sha256(url.encode()).hexdigest() + ".bin"
    cache.mkdir(parents=True)
    (cache / f"{name}.part").write_bytes(b"?" * len(CONTENT))
    (cache / f"{name}.part.validator").write_text('"one"')
    assert resolve(url).read_bytes() == CONTENT


def test_a_body_that_always_ends_early_leaves_no_final_file(server: FileServer, cache: Path) -> None:
    url = server.add("/f.bin", ServedFile(CONTENT, cut_after=[100] * 50, ranges=False))
    message = _fails(url)
    assert f"100 of {len(CONTENT)}" in message or "IncompleteRead" in message
    assert not [name for name in _names(cache) if ".part" not in name]


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (401, AccessDeniedError, "may not be read"),
        (403, AccessDeniedError, "may not be read"),
        (404, DownloadError, "does not exist"),
        (410, DownloadError, "does not exist"),
        (204, DownloadError, "HTTP 204"),
        (429, DownloadError, "later"),
        (500, DownloadError, "later"),
        (304, DownloadError, "redirects"),
    ],
)
def test_a_refusal_of_a_web_server_says_what_to_do(
    server: FileServer, cache: Path, status: int, kind: type[DownloadError], word: str
) -> None:
    url = server.add("/f.bin", ServedFile(b"", status))
    assert word in _fails(url, kind)
    assert not [name for name in _names(cache) if ".part" not in name]


def test_an_encoding_that_was_not_asked_for_is_refused(server: FileServer) -> None:
    assert "encoding" in _fails(server.add("/f", ServedFile(CONTENT, headers={"Content-Encoding": "gzip"})))
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_redirects_are_followed_but_not_for_ever(server: FileServer) -> None:
    target = server.add("/target", ServedFile(CONTENT))
    hop = server.add("/hop", ServedFile(b"", 302, {"Location": target}))
    assert resolve(server.add("/start", ServedFile(b"", 301, {"Location": hop}))).read_bytes() == CONTENT
    for i in range(20):
        server.add(f"/chain{i}", ServedFile(b"", 302, {"Location": f"/chain{i + 1}"}))
    assert "redirects" in _fails(server.base + "/chain0")
    assert "redirects" in _fails(server.add("/loop", ServedFile(b"", 302, {"Location": "/loop"})))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:text/plain,x"])
def test_a_redirect_to_another_scheme_is_refused(server: FileServer, target: str) -> None:
    url = server.add("/f", ServedFile(b"", 302, {"Location": target}))
    with pytest.raises(DownloadError):
        resolve(url)


def test_nobody_there_is_a_sentence() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "reached" in _fails(f"http://127.0.0.1:{unused.getsockname()[1]}/f.bin")


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_cache, "_TIMEOUT_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "reached" in _fails(f"http://127.0.0.1:{silent.getsockname()[1]}/f.bin")


def test_a_body_that_stalls_is_given_up(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_cache, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr(http_cache, "_ATTEMPTS", 2)
    assert "incomplete" in _fails(server.add("/f", ServedFile(CONTENT, delay_s=0.4)))


@pytest.mark.parametrize("url", ["https://", "http:///path", "http://[::1/x", "http://h:99999/x", "http://h:x/"])
def test_an_impossible_url_is_refused(url: str) -> None:
    _fails(url)


def test_secrets_of_an_address_are_not_shown(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "pockettts_fast")
    url = server.base.replace("http://", "http://user:hunter2@") + "/missing?token=hunter3"
    message = _fails(url)
    assert "hunter" not in message + caplog.text
    assert "/missing" in message


def test_a_cache_that_cannot_be_written_is_named(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    message = _fails(server.add("/f.bin", ServedFile(CONTENT)))
    assert "XDG_CACHE_HOME" in message
    assert server.requests == []


def test_many_at_once_get_the_whole_file_and_download_it_once(server: FileServer, cache: Path) -> None:
    url = server.add("/f.bin", ServedFile(CONTENT, delay_s=0.2))
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(resolve(url).read_bytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 8
    assert len(server.requests) == 1
    assert len(_names(cache)) == 1


def test_two_processes_at_once_are_safe(server: FileServer, cache: Path) -> None:
    url = server.add("/f.bin", ServedFile(CONTENT, delay_s=0.3))
    code = f"from pockettts_fast.hub import resolve; print(len(resolve({url!r}).read_bytes()))"
    environment = {**os.environ, "PYTHONPATH": str(Path(http_cache.__file__).parent.parent)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=30)[0].strip() for process in running] == [str(len(CONTENT))] * 3
    assert len(_names(cache)) == 1


def test_a_holder_without_progress_is_not_waited_for(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(http_cache, "_STALL_S", 0.2)
    url = server.add("/f.bin", ServedFile(CONTENT))
    name = hashlib.sha256(url.encode()).hexdigest() + ".bin"
    cache.mkdir(parents=True)
    with open(cache / f"{name}.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert resolve(url).read_bytes() == CONTENT
    assert _names(cache) == [name, f"{name}.part"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_only(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(http_cache, "_PROGRESS_FROM_BYTES", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    resolve(server.add("/f.bin", ServedFile(CONTENT)))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("MB" in captured.err) is terminal
    assert captured.err.endswith("\r" if terminal else "")
