"""The known mistakes in the codec (11 and 12 of the list in test_traps.py) against the wrong formulas."""

import numpy as np
import pytest

import tiny_models
from reference import codec, seanet, transformer
from reference.closeness import assert_close, assert_far
from reference.formulas import in_precision

BOTH = (np.float64, np.float32)


class Decoding:
    """Frames through a tiny codec, one at a time, and the formula's samples."""

    def __init__(self, name: str, rng: np.random.Generator, frames: int = 8) -> None:
        self.model = tiny_models.named(name)
        self.frames = rng.standard_normal((frames, self.model.config.latent_dim)).astype(np.float32)
        stage = self.model.decoder
        state = stage.new_state()
        self.pcm = np.concatenate([stage.step([state], [frame[None]])[0] for frame in self.frames])

    def formula(self, changed: dict[str, np.ndarray] | None = None) -> list[np.ndarray]:
        weights = self.model.weights | (changed or {})
        return [codec.decode(in_precision(weights, d), self.model.config, self.frames) for d in BOTH]


@pytest.mark.parametrize("name", ["wide_window", "plain", "deep_codec"])
def test_11_the_window_slides(name, rng):
    """Contexts of 250, 40 and 10 rows at 16 rows a frame; every single frame has to be right."""
    decoding = Decoding(name, rng, frames=60)
    size = decoding.model.decoder.samples_per_frame
    exact, single = decoding.formula()
    for frame in range(60):
        at = slice(frame * size, (frame + 1) * size)
        assert_close(decoding.pcm[at], exact[at], single[at])


@pytest.mark.parametrize("off", [-1, 1, None])
def test_11_a_query_sees_exactly_the_window(off, rng, monkeypatch):
    decoding = Decoding("plain", rng)
    assert_close(decoding.pcm, *decoding.formula())
    right = transformer.attend
    monkeypatch.setattr(
        transformer, "attend", lambda q, k, v, window: right(q, k, v, 0 if off is None else window + off)
    )
    assert_far(decoding.pcm, *decoding.formula())


def test_11_latents_are_denormalised_on_the_way_to_the_codec(rng):
    decoding = Decoding("plain", rng)
    latent = decoding.model.config.latent_dim
    for name, neutral in (("flow_lm.emb_std", np.ones(latent)), ("flow_lm.emb_mean", np.zeros(latent))):
        assert_far(decoding.pcm, *decoding.formula({name: neutral.astype(np.float32)}))


@pytest.mark.parametrize("index", [1, 2])
def test_11_every_layer_has_its_layer_scales(index, rng):
    decoding = Decoding("plain", rng)
    changed = {
        name: np.ones_like(values)
        for name, values in decoding.model.weights.items()
        if name.startswith("mimi.decoder_transformer") and name.endswith(f"layer_scale_{index}.scale")
    }
    assert changed
    assert_far(decoding.pcm, *decoding.formula(changed))


def test_11_there_is_no_final_tanh(rng):
    decoding = Decoding("plain", rng)
    assert_far(decoding.pcm, *(np.tanh(pcm) for pcm in decoding.formula()))


@pytest.mark.parametrize("where", ["zeros", "copies"])
def test_11_the_padding_is_what_the_configuration_says(where, rng, monkeypatch):
    decoding = Decoding("plain" if where == "zeros" else "replicated", rng)
    assert_close(decoding.pcm, *decoding.formula())
    right = seanet.conv

    def other_padding(*args, replicate=False, **kwargs):
        return right(*args, replicate=not replicate, **kwargs)

    monkeypatch.setattr(seanet, "conv", other_padding)
    size = decoding.model.decoder.samples_per_frame
    exact, single = decoding.formula()
    assert_far(decoding.pcm[:size], exact[:size], single[:size])


def test_11_elu_is_no_relu(rng, monkeypatch):
    decoding = Decoding("plain", rng)
    monkeypatch.setattr(seanet, "elu", lambda x: np.maximum(x, 0))
    assert_far(decoding.pcm, *decoding.formula())


def test_11_the_downsampling_repeats_its_first_row(rng, monkeypatch):
    model = tiny_models.named("plain")
    pcm = (0.1 * rng.standard_normal(3 * model.config.mimi.frame_size)).astype(np.float32)
    latents = model.encoder.encode(pcm)
    assert_close(latents, *(codec.encode(in_precision(model.weights, d), model.config, pcm) for d in BOTH))
    right = seanet.conv

    def zeros_in_front(x, weight, bias=None, **kwargs):
        return right(x, weight, bias, **(kwargs | {"replicate": False}))

    monkeypatch.setattr(seanet, "conv", zeros_in_front)
    wrong = [codec.encode(in_precision(model.weights, d), model.config, pcm) for d in BOTH]
    assert_far(latents[:1], *(one[:1] for one in wrong))


def test_12_the_bias_of_a_transposed_convolution_is_added_once(rng, monkeypatch):
    decoding = Decoding("plain", rng)
    right = seanet.conv_transpose

    def bias_again_where_frames_overlap(x, weight, bias, stride):
        y = right(x, weight, bias, stride)
        if bias is not None:
            y[stride:] += bias
        return y

    monkeypatch.setattr(seanet, "conv_transpose", bias_again_where_frames_overlap)
    assert_far(decoding.pcm, *decoding.formula())
