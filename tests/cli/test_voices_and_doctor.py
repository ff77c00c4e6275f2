"""The commands ``voices`` and ``doctor``."""

import json
import os
from pathlib import Path

import pytest

from cli.conftest import Cli
from pockettts_fast.cli import doctor
from pockettts_fast.defaults import PREDEFINED_VOICE_RECORDINGS


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("arguments", "default"),
    [((), "alba"), (("--language", "french"), "estelle"), (("--language", "german_24l"), "juergen")],
)
def test_voices_are_listed_with_the_default_marked(cli: Cli, arguments: tuple[str, ...], default: str) -> None:
    lines = cli("voices", *arguments).stdout.decode().splitlines()
    assert [line for line in lines if "default" in line] == [f"{default} (default)"]
    assert {line.split(" ")[0] for line in lines} == set(PREDEFINED_VOICE_RECORDINGS)


def test_voices_as_json(cli: Cli) -> None:
    listed = json.loads(cli("voices", "--language", "demo", "--json").stdout)
    assert listed == {"language": "demo", "default": "demo", "voices": ["demo"]}


def test_voices_of_an_unknown_language(cli: Cli) -> None:
    assert "'englisch'" in cli("voices", "--language", "englisch").failed_with_one_sentence()


def test_a_healthy_machine_has_no_findings(cli: Cli) -> None:
    outcome = cli("doctor", "--json")
    found = json.loads(outcome.stdout)
    assert found["findings"] == []
    assert outcome.code == 0
    sets = found["instruction_sets"]
    assert sets["active"] == sets["available"][-1]
    assert set(sets["available"]) <= set(sets["compiled"])
    assert 1 <= found["threads"]["default"] <= found["threads"]["affinity"]
    assert found["libraries"]["numpy"]
    assert found["hub"] == "not asked"
    assert found["models_cached"] == {}
    assert b"No problems found." in cli("doctor").stdout


def test_a_bad_instruction_set_is_a_finding(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETTTS_FAST_ISA", "sse9")
    outcome = cli("doctor")
    assert outcome.code == 1
    problems = [line for line in outcome.stdout.decode().splitlines() if line.startswith("PROBLEM: ")]
    assert len(problems) == 1
    assert "sse9" in problems[0]
    assert outcome.stderr == ""


def test_a_token_is_noticed_and_never_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert json.loads(cli("doctor", "--json").stdout)["token"] is False
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    outcome = cli("doctor", "--json")
    assert json.loads(outcome.stdout)["token"] is True
    assert b"verysecret" not in outcome.stdout
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_verysecret", encoding="ascii")
    outcome = cli("doctor")
    assert b"token: yes" in outcome.stdout
    assert b"verysecret" not in outcome.stdout


def put_in_cache(address: str) -> None:
    from pockettts_fast.hub import HubAddress

    parsed = HubAddress.parse(address)
    folder = Path(os.environ["HF_HOME"], "hub", f"models--{parsed.repository.replace('/', '--')}")
    path = folder / "snapshots" / (parsed.revision or "0" * 40) / parsed.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    if parsed.revision is None:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text("0" * 40, encoding="ascii")


def test_cached_models_are_found(cli: Cli) -> None:
    from pockettts_fast.config import language_config_path, load_config

    config = load_config(language_config_path("italian"))
    put_in_cache(config.flow_lm.lookup_table.tokenizer_path)
    assert json.loads(cli("doctor", "--json").stdout)["models_cached"] == {}
    assert config.weights_path_without_voice_cloning is not None
    put_in_cache(config.weights_path_without_voice_cloning)
    cached = json.loads(cli("doctor", "--json").stdout)["models_cached"]
    assert cached == {"italian": "without voice cloning"}
    assert config.weights_path is not None
    put_in_cache(config.weights_path)
    cached = json.loads(cli("doctor", "--json").stdout)["models_cached"]
    assert cached == {"italian": "with voice cloning"}


def test_an_address_without_a_revision_is_found_through_its_reference() -> None:
    assert not doctor._is_cached("hf://a/b/c.bin")
    put_in_cache("hf://a/b/c.bin")
    assert doctor._is_cached("hf://a/b/c.bin")
    assert not doctor._is_cached("hf://a/b/d.bin")
    assert not doctor._is_cached("/local/file")
    assert not doctor._is_cached("hf://nonsense")
    assert not doctor._is_cached(None)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_cache_that_cannot_be_written_is_a_finding(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hf"))
    outcome = cli("doctor", "--json")
    assert outcome.code == 1
    found = json.loads(outcome.stdout)
    assert found["cache"]["hub"]["writable"] is False
    assert "HF_HOME" in found["findings"][0]


def test_the_hub_is_asked_only_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(doctor, "_ask_hub", lambda: asked.append(True) or 200)
    cli("doctor")
    assert not asked
    outcome = cli("doctor", "--hub", "--json")
    assert asked
    assert json.loads(outcome.stdout)["hub"]["reachable"] is True
    assert outcome.code == 0


def test_a_hub_out_of_reach_is_a_finding(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_hub", lambda: "no route to host")
    outcome = cli("doctor", "--hub")
    assert outcome.code == 1
    assert b"no route to host" in outcome.stdout


def test_the_hub_is_not_asked_offline(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "_ask_hub", lambda: pytest.fail("asked"))
    outcome = cli("doctor", "--hub")
    assert outcome.code == 0
    assert b"HF_HUB_OFFLINE" in outcome.stdout
