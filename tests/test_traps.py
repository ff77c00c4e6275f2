"""Every mistake that an implementation of this model is known to have made, by its number in the design.

The numerical ones are tested here (1 to 10) and in test_traps_codec.py (11 and 12): the formula of
tests/reference is changed into the wrong version, and what was close to the right formula must be far from
the wrong one. That the right formulas hold for every configuration is tests/stages. The others are rules and
lie where the rule is:

====  ==========================================================  =======================================
  8   any split of a prefill gives the same bits                  blocks/test_backbone.py
 12   any split of frames gives the same samples                  blocks/test_codec.py
 13   temperature, truncated noise; the draw thrown away          test_sampling.py; test_engine.py
 14   the numbers of PyTorch for a seed                           test_sampling.py
 15   end of speech: threshold, first frames, frames after        test_engine.py
 16   the longest length, and that reaching it is reported        test_engine.py
 17   the text and its ids                                        test_text.py
 18   a fresh codec and a copy of the voice per chunk, fades      test_engine.py, test_processes.py
 19   preparation of a voice recording                            audio/test_prompt.py, test_voice.py
 20   voice states: format, legacy, other models, no mutation     test_voice_state.py, test_voice.py
 21   names of the training code, weight norm                     test_weights.py, test_loading.py
====  ==========================================================  =======================================
"""

import math

import numpy as np
import pytest

import tiny_models
from reference import backbone, flow_head, transformer
from reference.closeness import assert_close, assert_far
from reference.formulas import in_precision, linear, silu

BOTH = (np.float64, np.float32)


class Utterance:
    """One utterance of a tiny model, and the formula's with the same inputs and other weights."""

    def __init__(self, name: str, rng: np.random.Generator, steps: int = 1, scale: dict[str, float] | None = None):
        config = tiny_models.named(name).config
        arrays = tiny_models.random_weights(config, 1)
        for tensor, factor in (scale or {}).items():
            arrays[tensor] = arrays[tensor] * np.float32(factor)
        self.model = tiny_models.build(tiny_models.document(name), steps=steps, arrays=arrays)
        self.steps = steps
        self.given = tiny_models.inputs(self.model, rng)
        self.state = tiny_models.start(self.model, self.given)
        self.latents, self.end = tiny_models.speak(self.model, self.state, self.given)

    def formula(self, changed: dict[str, np.ndarray] | None = None, **given) -> tuple[np.ndarray, np.ndarray]:
        """The latents in both precisions."""
        use = {name: given.get(name, getattr(self.given, name)) for name in ("prompt", "ids", "latents", "noise")}
        weights = self.model.weights | (changed or {})
        exact, single = (
            backbone.speak(in_precision(weights, dtype), self.model.config, **use, steps=self.steps).latents
            for dtype in BOTH
        )
        return exact, single

    def reordered(self, pattern: str, order) -> dict[str, np.ndarray]:
        """Weights whose name holds `pattern`, reordered: what reading them in another order gives."""
        return {name: order(values) for name, values in self.model.weights.items() if pattern in name}


def swap_blocks(count: int, order: tuple[int, ...]):
    def swap(values: np.ndarray) -> np.ndarray:
        blocks = np.split(values, count)
        return np.concatenate([blocks[i] for i in order])

    return swap


# --- the flow head (1, 2, 3) ---------------------------------------------------------------------------


@pytest.fixture
def flow(rng):
    return Utterance("plain", rng, steps=3)


def test_the_right_formula_is_close(flow):
    assert_close(flow.latents, *flow.formula())


def time_embedder(ddof: int = 1, centred: bool = False, sine_first: bool = False, eps: float = 1e-5):
    def embed(weights, name, t):
        freqs = weights[f"{name}.freqs"]
        angles = (np.float32(t) * freqs.astype(np.float32)).astype(freqs.dtype)
        parts = [np.cos(angles), np.sin(angles)]
        x = np.concatenate(parts[::-1] if sine_first else parts)[None]
        x = linear(weights, f"{name}.mlp.2", silu(linear(weights, f"{name}.mlp.0", x)))
        variance = x.var(axis=-1, ddof=ddof, keepdims=True)
        top = x - x.mean() if centred else x
        return top * weights[f"{name}.mlp.3.alpha"] / np.sqrt(variance + x.dtype.type(eps))

    return embed


@pytest.mark.parametrize("wrong", [{"ddof": 0}, {"centred": True}, {"sine_first": True}, {"eps": 1e-2}])
def test_1_the_time_embedders_norm_and_order(flow, wrong, monkeypatch):
    monkeypatch.setattr(flow_head, "embed_time", time_embedder())
    assert_close(flow.latents, *flow.formula())
    monkeypatch.setattr(flow_head, "embed_time", time_embedder(**wrong))
    assert_far(flow.latents, *flow.formula())


def test_1_the_stored_frequencies_are_used(flow):
    exact = np.exp(-math.log(10_000.0) * np.arange(128) / 128).astype(np.float32)
    names = [name for name in flow.model.weights if name.endswith(".freqs")]
    assert names
    assert_far(flow.latents, *flow.formula(dict.fromkeys(names, exact)))


def sampler(start=0, end=1, average=True, divide=True):
    def sample(weights, prefix, kind, condition, noise, steps):
        y = linear(weights, f"{prefix}cond_embed", condition)
        x = noise
        for i in range(steps):
            embedded = [
                flow_head.embed_time(weights, f"{prefix}time_embed.{c}", (i + at) / steps)
                for c, at in enumerate((start, end))
            ]
            time = sum(embedded) / (2 if average else 1)
            x = x + flow_head.head(weights, prefix, y + time, x) / x.dtype.type(steps if divide else 1)
        return x

    return sample


@pytest.mark.parametrize(
    "wrong", [{"end": 0}, {"start": 1}, {"start": 1, "end": 0}, {"average": False}, {"divide": False}]
)
def test_2_the_times_of_a_step_and_its_length(flow, wrong, monkeypatch):
    monkeypatch.setattr(backbone, "sample", sampler())
    assert_close(flow.latents, *flow.formula())
    monkeypatch.setattr(backbone, "sample", sampler(**wrong))
    assert_far(flow.latents, *flow.formula())


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_3_the_chunks_of_a_block_are_shift_scale_gate(flow, order):
    pattern = "res_blocks.0.adaLN_modulation"
    assert_far(flow.latents, *flow.formula(flow.reordered(pattern, swap_blocks(3, order))))


def test_3_the_chunks_of_the_last_layer_are_shift_scale(flow):
    assert_far(flow.latents, *flow.formula(flow.reordered("final_layer.adaLN", swap_blocks(2, (1, 0)))))


def test_3_silu_comes_before_the_modulation(flow, monkeypatch):
    def head(weights, prefix, y, x):
        original = flow_head.silu
        flow_head.silu = lambda z: z if z is y else original(z)
        try:
            return right(weights, prefix, y, x)
        finally:
            flow_head.silu = original

    right = flow_head.head
    monkeypatch.setattr(flow_head, "head", head)
    assert_far(flow.latents, *flow.formula())


def test_3_the_heads_norms_have_eps_1e_6(rng, monkeypatch):
    # A faint input makes the epsilon a part of the variance that shows.
    quiet = Utterance("drifting", rng, scale={f"flow_lm.flow_net.input_proj.{k}": 3e-3 for k in ("weight", "bias")})
    assert_close(quiet.latents, *quiet.formula())
    monkeypatch.setattr(flow_head, "NORM_EPS", 1e-5)
    assert_far(quiet.latents, *quiet.formula())


def test_3_the_transformers_norms_have_eps_1e_5(rng, monkeypatch):
    faint = dict.fromkeys(
        ("flow_lm.input_linear.weight", "flow_lm.conditioner.embed.weight", "flow_lm.speaker_proj_weight"),
        3e-3,
    )
    quiet = Utterance("plain", rng, scale=faint)
    assert_close(quiet.latents, *quiet.formula())
    monkeypatch.setattr(transformer, "NORM_EPS", 1e-6)
    assert_far(quiet.latents, *quiet.formula())


# --- the transformer (4 to 7) --------------------------------------------------------------------------


@pytest.fixture
def grouped(rng):
    return Utterance("grouped", rng)


def test_4_gelu_is_the_tanh_form(grouped, monkeypatch):
    def gelu_erf(x):
        return (x * (1 + np.vectorize(math.erf)(x.astype(np.float64) / math.sqrt(2))) / 2).astype(x.dtype)

    assert_close(grouped.latents, *grouped.formula())
    monkeypatch.setattr(transformer, "gelu_tanh", gelu_erf)
    assert_far(grouped.latents, *grouped.formula())


def turn_halves(x, max_period):
    """The other layout: the pairs are (i, i + D / 2)."""
    width = x.shape[-1]
    order = np.arange(width).reshape(2, -1).T.reshape(-1)
    turned = right_turn(x[..., order], max_period)
    return turned[..., np.argsort(order)]


right_turn = transformer.turn


def test_5_rope_turns_interleaved_pairs(grouped, monkeypatch):
    monkeypatch.setattr(transformer, "turn", turn_halves)
    assert_far(grouped.latents, *grouped.formula())


def test_5_positions_go_on_from_the_prompt_through_text_and_latents(grouped, monkeypatch):
    prompt = len(grouped.given.prompt) + 1

    def turn_from_zero_behind_the_prompt(x, max_period):
        return np.concatenate([right_turn(x[:prompt], max_period), right_turn(x[prompt:], max_period)])

    monkeypatch.setattr(transformer, "turn", turn_from_zero_behind_the_prompt)
    assert_far(grouped.latents, *grouped.formula())


def test_5_a_group_of_query_heads_shares_a_key_head_and_its_turn(grouped, monkeypatch):
    # Query head h belongs to key head h // 2, not to h % 2.
    monkeypatch.setattr(np, "repeat", lambda x, n, axis: np.concatenate([x] * n, axis=axis))
    assert_far(grouped.latents, *grouped.formula())


@pytest.mark.parametrize("order", ["kqv", "qvk"])
def test_6_in_proj_is_queries_keys_values(grouped, order):
    config = grouped.model.config.flow_lm.transformer
    kv = config.kv_heads * config.head_dim

    def reorder(values):
        q, k, v = np.split(values, [config.attention_dim, config.attention_dim + kv])
        return np.concatenate([{"q": q, "k": k, "v": v}[part] for part in order])

    assert_far(grouped.latents, *grouped.formula(grouped.reordered("self_attn.in_proj", reorder)))


def test_7_the_voice_comes_before_the_text(grouped, monkeypatch):
    prompt, text = backbone.rows_of_prompt, backbone.rows_of_text
    given = grouped.given
    monkeypatch.setattr(backbone, "rows_of_prompt", lambda weights, config, _: text(weights, given.ids))
    monkeypatch.setattr(
        backbone, "rows_of_text", lambda weights, _: prompt(weights, grouped.model.config, given.prompt)
    )
    assert_far(grouped.latents, *grouped.formula())


def test_7_the_start_row_comes_before_the_voice(grouped, monkeypatch):
    right = backbone.rows_of_prompt
    monkeypatch.setattr(backbone, "rows_of_prompt", lambda *args: np.roll(right(*args), -1, axis=0))
    assert_far(grouped.latents, *grouped.formula())


# --- what the model is fed (8, 9, 10) --------------------------------------------------------------------


def test_8_padding_is_not_neutral(grouped):
    model, given = grouped.model, grouped.given
    padding = model.config.flow_lm.lookup_table.n_bins
    for padded in (
        tiny_models.Inputs(np.concatenate([given.prompt, 0 * given.prompt[:1]]), given.ids, given.latents, given.noise),
        tiny_models.Inputs(given.prompt, [*given.ids, padding], given.latents, given.noise),
    ):
        state = tiny_models.start(model, padded)
        assert state.position == grouped.state.position - len(given.noise) + 1
        latents, _ = tiny_models.speak(model, state, padded)
        assert_far(latents, *grouped.formula())


def test_9_each_nan_component_of_a_latent_becomes_that_of_the_start(grouped):
    given = grouped.given
    latents = given.latents.copy()
    latents[5, ::3] = np.nan
    mixed = tiny_models.Inputs(given.prompt, given.ids, latents, given.noise)
    out, _ = tiny_models.speak(grouped.model, tiny_models.start(grouped.model, mixed), mixed)
    assert np.isfinite(out).all()
    assert_close(out, *grouped.formula(latents=latents))
    whole = latents.copy()
    whole[5] = np.nan
    assert_far(out, *grouped.formula(latents=whole))
    zero = np.nan_to_num(latents)
    assert_far(out, *grouped.formula(latents=zero))


@pytest.mark.parametrize("name", ["plain", "grouped", "one_kv_head"])
@pytest.mark.parametrize("spare", [1, 15, 16, 100])
@pytest.mark.parametrize("filling", [np.nan, np.inf, 1e38])
def test_9_what_lies_beyond_the_length_of_a_cache_never_leaks(name, spare, filling, rng):
    model = tiny_models.named(name)
    given = tiny_models.inputs(model, rng)
    voice = model.flow_lm.to_model_state(tiny_models.start(model, given))
    padded = {
        module: entries
        | {"cache": np.pad(entries["cache"], ((0, 0), (0, 0), (0, spare), (0, 0), (0, 0)), constant_values=filling)}
        for module, entries in voice.items()
    }
    results = [tiny_models.speak(model, model.flow_lm.state_from_voice(state, 0), given) for state in (voice, padded)]
    for one, other in zip(*results, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_array_equal(one, other)


def test_10_latents_are_fed_back_as_they_are(grouped):
    weights, given = grouped.model.weights, grouped.given
    denormalised = given.latents * weights["flow_lm.emb_std"] + weights["flow_lm.emb_mean"]
    assert_far(grouped.latents, *grouped.formula(latents=denormalised))
