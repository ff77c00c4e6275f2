import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pockettts_fast import config as config_module
from pockettts_fast.config import (
    CONFIGS_DIR,
    Config,
    UnknownLanguageError,
    available_languages,
    check_weight_sources,
    config_from_dict,
    config_to_dict,
    language_config_path,
    load_config,
)
from pockettts_fast.defaults import (
    default_text_for_language,
    default_voice_for_language,
    predefined_voice_address,
    voices_for_language,
)
from pockettts_fast.errors import ConfigError, MissingFileError, VoiceError
from pockettts_fast.hub import resolve

RELEASED = sorted(path.stem for path in CONFIGS_DIR.glob("*.yaml"))


def _released(language: str) -> Any:
    return yaml.safe_load((CONFIGS_DIR / f"{language}.yaml").read_text("utf-8"))


DATA = {name: _released(name) for name in ("english", "english_2m_2026-10")}
DROP = object()


def _changed(place: str, value: object, language: str = "english") -> Any:
    data = copy.deepcopy(DATA[language])
    *parents, key = place.split(".")
    target = data
    for parent in parents:
        target = target[parent]
    if value is DROP:
        del target[key]
    else:
        target[key] = value
    return data


def _message(data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(data, "some.yaml")
    message = str(caught.value)
    assert "some.yaml" in message
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize("language", RELEASED)
def test_released_configuration_loads_and_survives_a_round_trip(language: str) -> None:
    config = load_config(language_config_path(language))
    assert config_from_dict(config_to_dict(config), "round trip") == config
    check_weight_sources(config, language)
    assert config.mimi.frame_size == 1920
    assert config.mimi.resample_stride == 16
    assert config.latent_dim == 32


def test_there_are_27_released_languages() -> None:
    assert len(RELEASED) == 27
    assert set(RELEASED) <= set(available_languages())


def test_defaults_of_the_schema() -> None:
    data = copy.deepcopy(DATA["english"])
    for key in ("default_temperature", "replace_characters", "weights_path_without_voice_cloning"):
        del data[key]
    del data["flow_lm"]["insert_bos_before_voice"]
    config = config_from_dict(data, "test")
    assert config.default_temperature == 0.3
    assert config.default_eos_threshold == -4.0
    assert config.replace_characters == {}
    assert config.append_terminal_punctuation
    assert config.capitalize_first_letter
    assert not config.remove_semicolons
    assert not config.pad_with_spaces_for_short_inputs
    assert config.model_recommended_frames_after_eos is None
    assert not config.flow_lm.insert_bos_before_voice
    assert config.flow_lm.flow.type == "lsd"
    assert config.mimi.transformer.max_period == 10000.0


def test_derived_facts_follow_the_optional_keys() -> None:
    large = load_config(language_config_path("english"))
    small = load_config(language_config_path("english_2m_2026-10"))
    backbone = large.flow_lm.transformer
    assert (backbone.attention_dim, backbone.head_dim, backbone.kv_heads) == (1024, 64, 16)
    assert backbone.feedforward_dim == 4096
    assert large.flow_lm.condition_dim == 1024
    assert large.flow_lm.flow.num_time_conditions == 2
    assert large.mimi.decoding_seanet is large.mimi.seanet
    assert large.mimi.decoding_transformer is large.mimi.transformer
    assert large.mimi.conditioning_dim == 32
    assert large.mimi.upsample_in_dim == 512
    backbone = small.flow_lm.transformer
    assert (backbone.attention_dim, backbone.head_dim, backbone.kv_heads) == (192, 64, 1)
    assert backbone.feedforward_dim == 96
    assert small.flow_lm.condition_dim == 64
    assert small.flow_lm.flow.num_time_conditions == 0
    assert small.mimi.decoding_seanet.n_filters == 24
    assert small.mimi.decoding_transformer.context == 50
    assert small.mimi.decoding_transformer.output_dimension == 128
    assert small.mimi.upsample_in_dim == 128
    flow = config_from_dict(_changed("flow_lm.flow.type", "flow_matching"), "test").flow_lm.flow
    assert flow.num_time_conditions == 1


def test_a_configuration_cannot_be_changed() -> None:
    config = load_config(language_config_path("english"))
    with pytest.raises(AttributeError):
        config.default_temperature = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("flow_lm.flow.depht", "depth"),
        ("flow_lm.transformer.num_head", "num_heads"),
        ("mimi.seanet.ratio", "ratios"),
        ("weight_path", "weights_path"),
        ("mimi.quantizer.zzz", "output_dimension"),
    ],
)
def test_an_unknown_key_is_named_with_its_place(place: str, hint: str) -> None:
    message = _message(_changed(place, 1))
    assert place in message
    assert "unknown" in message
    assert hint in message


@pytest.mark.parametrize("place", ["flow_lm.flow.depth", "mimi", "flow_lm.dtype", "mimi.seanet.pad_mode"])
def test_a_missing_key_is_named_with_its_place(place: str) -> None:
    message = _message(_changed(place, DROP))
    assert place in message
    assert "missing" in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("flow_lm.flow.depth", "six"),
        ("flow_lm.flow.depth", "6"),
        ("flow_lm.flow.depth", 6.5),
        ("flow_lm.flow.depth", True),
        ("flow_lm.flow.depth", None),
        ("flow_lm.flow.depth", [6]),
        ("flow_lm.flow.type", 3),
        ("flow_lm", None),
        ("flow_lm", []),
        ("flow_lm.insert_bos_before_voice", 1),
        ("flow_lm.insert_bos_before_voice", "yes"),
        ("mimi.seanet.ratios", 6),
        ("mimi.frame_rate", "12.5"),
        ("mimi.decoder_seanet", 3),
        ("replace_characters", None),
        ("replace_characters", {"a": 2}),
        ("replace_characters", {1: "a"}),
        ("default_temperature", "hot"),
        ("weights_path", 3),
    ],
)
def test_a_wrong_type_is_named_with_its_place(place: str, value: object) -> None:
    assert place in _message(_changed(place, value))


def test_a_wrong_item_of_a_list_is_named_with_its_index() -> None:
    assert "mimi.seanet.ratios[1]" in _message(_changed("mimi.seanet.ratios", [6, "five", 4]))


@pytest.mark.parametrize("data", [None, [], "text", 3, {}, {1: 2}, {"flow_lm": {}, "mimi": {}}])
def test_data_that_is_no_configuration_is_refused(data: object) -> None:
    _message(data)


def test_whole_floats_are_integers_and_integers_are_floats() -> None:
    data = _changed("flow_lm.transformer.hidden_scale", 4.0)
    data["mimi"]["seanet"]["ratios"] = [6.0, 5, 4]
    data["mimi"]["frame_rate"] = 25
    config = config_from_dict(data, "test")
    assert type(config.flow_lm.transformer.hidden_scale) is int
    assert config.mimi.seanet.ratios == (6, 5, 4)
    assert type(config.mimi.frame_rate) is float
    assert config.mimi.resample_stride == 8


@pytest.mark.parametrize(
    ("language", "place", "value"),
    [
        ("english", "flow_lm.dtype", "bfloat16"),
        ("english", "flow_lm.dtype", "float99"),
        ("english", "mimi.dtype", "float16"),
        ("english", "flow_lm.flow.type", "diffusion"),
        ("english", "flow_lm.flow.dim", 0),
        ("english", "flow_lm.flow.depth", -1),
        ("english", "flow_lm.transformer.num_heads", 0),
        ("english", "flow_lm.transformer.num_heads", 7),
        ("english", "flow_lm.transformer.num_heads", 1024),
        ("english", "flow_lm.transformer.num_layers", 0),
        ("english", "flow_lm.transformer.num_layers", 10**9),
        ("english", "flow_lm.transformer.d_model", 10**30),
        ("english", "flow_lm.transformer.attn_dim", 1000),
        ("english", "flow_lm.transformer.num_kv_heads", 3),
        ("english", "flow_lm.transformer.num_kv_heads", 32),
        ("english", "flow_lm.transformer.max_period", 0),
        ("english", "flow_lm.z_dim", 0),
        ("english", "flow_lm.lookup_table.dim", 512),
        ("english", "flow_lm.lookup_table.n_bins", -4000),
        ("english", "flow_lm.lookup_table.rank", 0),
        ("english", "flow_lm.lookup_table.tokenizer_path", ""),
        ("english", "weights_path", ""),
        ("english", "mimi.sample_rate", 0),
        ("english", "mimi.sample_rate", 22050),
        ("english", "mimi.frame_rate", 0),
        ("english", "mimi.frame_rate", -12.5),
        ("english", "mimi.frame_rate", float("nan")),
        ("english", "mimi.frame_rate", float("inf")),
        ("english", "mimi.frame_rate", 12.4),
        ("english", "mimi.frame_rate", 400.0),
        ("english", "mimi.channels", 2),
        ("english", "mimi.seanet.channels", 2),
        ("english", "mimi.seanet.pad_mode", "reflect"),
        ("english", "mimi.seanet.ratios", []),
        ("english", "mimi.seanet.ratios", [6, 0, 4]),
        ("english", "mimi.seanet.ratios", [2] * 40),
        ("english", "mimi.seanet.compress", 65),
        ("english", "mimi.seanet.kernel_size", 0),
        ("english", "mimi.seanet.dimension", 256),
        ("english", "mimi.transformer.input_dimension", 256),
        ("english", "mimi.transformer.output_dimensions", []),
        ("english", "mimi.transformer.output_dimensions", [512, 512]),
        ("english", "mimi.transformer.output_dimensions", [256]),
        ("english", "mimi.transformer.num_heads", 512),
        ("english", "mimi.transformer.num_heads", 7),
        ("english", "mimi.transformer.max_period", 0.0),
        ("english", "mimi.transformer.layer_scale", float("nan")),
        ("english", "mimi.transformer.context", 0),
        ("english", "mimi.quantizer.output_dimension", 256),
        ("english", "mimi.outer_dim", 500),
        ("english", "mimi.inner_dim", 0),
        ("english_2m_2026-10", "mimi.decoder_seanet", None),
        ("english_2m_2026-10", "mimi.decoder_transformer", None),
        ("english_2m_2026-10", "mimi.decoder_seanet.ratios", [6, 5, 2]),
        ("english_2m_2026-10", "mimi.decoder_seanet.dimension", 64),
        ("english_2m_2026-10", "mimi.decoder_transformer.d_model", 126),
        ("english_2m_2026-10", "mimi.outer_dim", 64),
        ("english", "replace_characters", {"ab": "c"}),
        ("english", "replace_characters", {"": "c"}),
        ("english", "default_temperature", -0.1),
        ("english", "default_temperature", float("inf")),
        ("english", "default_eos_threshold", float("nan")),
        ("english", "model_recommended_frames_after_eos", -1),
    ],
)
def test_an_impossible_value_is_refused(language: str, place: str, value: object) -> None:
    # A rule between two values may name the other one, but in the same section.
    assert place.partition(".")[0] in _message(_changed(place, value, language))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("flow_lm.dtype", "float"),
        ("flow_lm.flow.depth", 0),
        ("flow_lm.flow.type", "flow_matching"),
        ("flow_lm.transformer.num_kv_heads", 4),
        ("flow_lm.transformer.attn_dim", 512),
        ("mimi.seanet.n_residual_layers", 0),
        ("mimi.seanet.n_residual_layers", 3),
        ("mimi.seanet.pad_mode", "replicate"),
        ("mimi.transformer.d_model", 256),
        ("mimi.inner_dim", None),
        ("mimi.outer_dim", None),
        ("default_temperature", 0),
        ("default_eos_threshold", float("inf")),
        ("model_recommended_frames_after_eos", 0),
    ],
)
def test_a_value_that_upstream_can_run_is_accepted(place: str, value: object) -> None:
    config_from_dict(_changed(place, value), "test")


def test_one_row_a_frame_needs_equal_widths_on_both_sides_of_the_missing_layer() -> None:
    data = _changed("mimi.frame_rate", 200.0)
    assert "inner_dim" in _message(data)
    data["mimi"]["inner_dim"] = None
    config = config_from_dict(data, "test")
    assert config.mimi.resample_stride == 1
    assert config.mimi.frame_size == 120
    data["mimi"]["quantizer"]["output_dimension"] = 64
    assert "quantizer.output_dimension" in _message(data)


def _with_sources(flow_lm: str | None, mimi: str | None, bundle: str | None) -> Config:
    data = _changed("weights_path", bundle)
    data["flow_lm"]["weights_path"] = flow_lm
    data["mimi"]["weights_path"] = mimi
    return config_from_dict(data, "test")


@pytest.mark.parametrize("sources", [("f", "m", None), (None, None, "b"), (None, "m", "b"), ("f", "m", "b")])
def test_weights_that_add_up_are_accepted(sources: tuple[str | None, str | None, str | None]) -> None:
    check_weight_sources(_with_sources(*sources), "test")


@pytest.mark.parametrize("sources", [("f", None, None), ("f", None, "b"), (None, "m", None), (None, None, None)])
def test_weights_that_do_not_add_up_are_refused(sources: tuple[str | None, str | None, str | None]) -> None:
    config = _with_sources(*sources)
    with pytest.raises(ConfigError, match=r"test.*weights"):
        check_weight_sources(config, "test")


Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: bytes) -> Path:
        path = tmp_path / "written.yaml"
        path.write_bytes(content)
        return path

    return write_file


def _load_message(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "written.yaml" in message
    assert "\n" not in message
    assert len(message) < 600
    return message


ALIAS_BOMB = b"a0: &a0 [1, 1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)
MERGE_BOMB = b"a0: &a0 {x: 1}\n" + b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"# only a comment\n", "empty"),
        (b"null\n", "must be a mapping"),
        (b"just text", "must be a mapping"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"flow_lm: [1, 2\nmimi: 3", "line"),
        (b"a: b: c", "line 1"),
        (b"flow_lm: {}\n---\nmimi: {}\n", "document"),
        (b"weights_path: caf\xe9\n", "UTF-8"),
        ("flow_lm: {}".encode("utf-16"), "UTF-8"),
        (b"a: \x00\n", "YAML"),
        (b"a: !!python/object:os.system x\n", "YAML"),
        (b"weights_path: a\nweights_path: b\n", "twice"),
        (b"flow_lm: &x\n  flow: *x\n", "contains itself"),
        (ALIAS_BOMB, "values"),
        (MERGE_BOMB, "values"),
        (b"[" * 20_000, "nested"),
        (b"a: " + b"9" * 10_000, "some.yaml|read|unknown|large"),
        (b"a: 9999-99-99\n", "read"),
        (b"a: [" + b"1, " * 30_000 + b"1]", "values"),
        (b"x" * 300_000, "KiB"),
        (b"? [1, 2]\n: 3\n", "unknown|YAML"),
        (b"? {a: b}\n: 3\n", "YAML"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_file_that_is_no_configuration_gets_one_sentence(write: Write, content: bytes, expected: str) -> None:
    path = write(content)
    message = _load_message(path)
    assert any(word in message for word in expected.split("|")), message


def test_exponents_are_numbers(write: Write) -> None:
    text = yaml.safe_dump(_changed("mimi.transformer.max_period", "EXPONENT")).replace("EXPONENT", "1e4")
    assert load_config(write(text.encode())).mimi.transformer.max_period == 10000.0


def test_merge_keys_and_a_byte_order_mark_are_fine(write: Write) -> None:
    data = _changed("mimi.seanet.pad_mode", "constant")
    data["mimi"]["decoder_seanet"] = {"MERGE": 1}
    text = yaml.safe_dump(data, sort_keys=False)
    text = text.replace("MERGE: 1", "<<: *codec\n    n_filters: 32").replace("  seanet:", "  seanet: &codec")
    config = load_config(write(b"\xef\xbb\xbf" + text.encode()))
    assert config.mimi.decoding_seanet.n_filters == 32
    assert config.mimi.decoding_seanet.kernel_size == 7


def test_a_name_that_is_no_yaml_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="language"):
        load_config("english")
    with pytest.raises(ConfigError, match=r"\.yaml"):
        load_config("model.json")
    with pytest.raises(ConfigError, match=r"\.yaml"):
        load_config("hf://owner/name/config.json@main")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no-such-file"):
        load_config(tmp_path / "no-such-file.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(MissingFileError, match="folder"):
        load_config(tmp_path / "folder.yaml")


@pytest.mark.parametrize("language", ["englsh", "", "../english", "english.yaml", "/etc/passwd", "ENGLISH"])
def test_an_unknown_language_lists_those_there_are(language: str) -> None:
    with pytest.raises(UnknownLanguageError) as caught:
        language_config_path(language)
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, FileNotFoundError)
    assert "french_24l" in str(caught.value)


def test_a_near_miss_of_a_language_is_suggested() -> None:
    with pytest.raises(UnknownLanguageError, match="did you mean 'portuguese'"):
        language_config_path("portugese")


def test_the_demo_is_a_language_when_the_package_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "_DEMO_CONFIG", tmp_path / "demo.yaml")
    assert "demo" not in available_languages()
    (tmp_path / "demo.yaml").write_text("")
    assert "demo" in available_languages()
    assert language_config_path("demo") == tmp_path / "demo.yaml"


def test_voices_and_texts_of_languages() -> None:
    assert default_voice_for_language("french_24l") == "estelle"
    assert default_voice_for_language("english_2026-01") == "alba"
    assert default_voice_for_language(None) == "alba"
    assert default_voice_for_language("french", config="mine.yaml").startswith("hf://kyutai/tts-voices/alba")
    assert default_voice_for_language("demo") == "demo"
    assert default_text_for_language("demo").startswith("Hello")
    assert default_text_for_language("italian_24l").startswith("Ciao")
    assert len(voices_for_language("german")) == 27
    assert voices_for_language("demo") == ("demo",)
    assert predefined_voice_address("demo", "demo").startswith("package://demo/")
    address = predefined_voice_address("dutch", "daan")
    assert "/languages/dutch/embeddings/daan.safetensors@" in address
    with pytest.raises(VoiceError, match="did you mean 'alba'"):
        predefined_voice_address("english", "albaa")
    with pytest.raises(VoiceError, match="demo"):
        predefined_voice_address("demo", "alba")


def test_every_file_of_the_demo_is_in_the_package() -> None:
    config = load_config(language_config_path("demo"))
    assert config.weights_path is not None
    for address in (
        config.weights_path,
        config.flow_lm.lookup_table.tokenizer_path,
        predefined_voice_address("demo", "demo"),
    ):
        assert address.startswith("package://demo/")
        assert resolve(address).is_file()
