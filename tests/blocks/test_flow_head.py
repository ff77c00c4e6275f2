"""The flow head alone: a backbone without layers, so that only norms and linear maps stand around it."""

import numpy as np
import pytest

import tiny_models
from pockettts_fast import _core
from reference.closeness import assert_close
from reference.flow_head import sample
from reference.formulas import affine_norm, in_precision, product

LATENT, WIDTH, ROWS = 20, 24, 64


def head(kind: str, depth: int, steps: int):
    """A stage without layers and its weights."""
    document = tiny_models.document(
        "plain",
        flow_type=kind if kind in tiny_models.FLOW_TYPES else "lsd",
        flow_depth=depth,
        flow_dim=28,
        latent_dim=LATENT,
        d_model=WIDTH,
    )
    weights = tiny_models.build(document, seed=depth).weights
    widths = ("input", "model", "output", "attention_dim", "feedforward")
    transformer = {
        **dict.fromkeys(widths, WIDTH),
        "layers": 0,
        "heads": 4,
        "kv_heads": 4,
        "window": 0,
        "max_period": 10000.0,
        "layer_scale": False,
    }
    shape = {
        "transformer": transformer,
        "latent": LATENT,
        "flow_dim": 28,
        "flow_depth": depth,
        "flow_type": kind,
        "steps": steps,
        "precision": "float32",
        "condition": WIDTH,
        "vocabulary": 601,
        "table_rank": 0,
        "prompt": LATENT,
        "prompt_start": True,
    }
    stage = _core.Backbone(_core.Pool(1), tiny_models.weight_set(weights).stage("flow_lm."), shape)
    return stage, weights


def run(stage, latents, noise):
    return stage.step([stage.new_state() for _ in latents], latents, noise)[0]


@pytest.mark.parametrize("kind", tiny_models.FLOW_TYPES)
@pytest.mark.parametrize(("depth", "steps"), [(0, 1), (1, 1), (3, 1), (2, 2), (2, 7)])
def test_samples_are_as_close_to_the_formula_as_float32_allows(kind, depth, steps, rng):
    stage, weights = head(kind, depth, steps)
    latents, noise = rng.standard_normal((2, ROWS, LATENT)).astype(np.float32)
    results = []
    for dtype in (np.float64, np.float32):
        w = in_precision(weights, dtype)
        hidden = product(latents.astype(dtype), w["flow_lm.input_linear.weight"])
        condition = affine_norm(w, "flow_lm.out_norm", hidden, 1e-5)
        results.append(sample(w, "flow_lm.flow_net.", kind, condition, noise.astype(dtype), steps))
    assert_close(run(stage, latents, noise), *results)


@pytest.mark.parametrize("kind", ["drifting", "pointwise"])
def test_heads_without_time_take_one_step_whatever_is_asked(kind, rng):
    latents, noise = rng.standard_normal((2, ROWS, LATENT)).astype(np.float32)
    one, many = (run(head(kind, 2, steps)[0], latents, noise) for steps in (1, 9))
    np.testing.assert_array_equal(one, many)


def test_no_steps_and_unknown_types_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        head("lsd", 1, 0)
    with pytest.raises(ValueError, match="flow type 'unknown'"):
        head("unknown", 1, 1)
