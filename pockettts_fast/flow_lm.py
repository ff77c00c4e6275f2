"""The language-model stage: text ids, voice and past latents in, the next latent and an end logit out.

Binds a configuration and its checkpoint names to ``_core.Backbone``. One call a frame, without the GIL.
Source of the rules: ``pocket_tts.models.flow_lm`` and ``pocket_tts.models.tts_model``.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pockettts_fast import _core
from pockettts_fast.config import Config
from pockettts_fast.voice_state import ModelState, attention_module, check_model_state
from pockettts_fast.weights import WeightSet

FloatArray = npt.NDArray[np.float32]

_PREFILL_ROWS = 512
"""Rows of one prefill call: bounds scratch memory for very long prompts and changes no bit."""


class FlowLM:
    """FlowLM transformer with its flow head and end-of-speech head; immutable, shared by all streams."""

    def __init__(
        self, config: Config, weights: WeightSet, pool: "_core.Pool", steps: int, precision: str = "float32"
    ) -> None:
        """Packs the weights.

        Args:
            steps: number of sampler steps; it fixes the time embeddings.
            precision: ``"float32"`` or ``"int8"``: of the transformer's and most of the flow head's linears.
        """
        flow_lm = config.flow_lm
        transformer = flow_lm.transformer
        self.latent_dim = config.latent_dim
        self._config = config
        self._layers = transformer.num_layers
        self._start_row = flow_lm.insert_bos_before_voice
        shape = {
            "transformer": {
                "input": transformer.d_model,
                "model": transformer.d_model,
                "output": transformer.d_model,
                "layers": transformer.num_layers,
                "heads": transformer.num_heads,
                "kv_heads": transformer.kv_heads,
                "attention_dim": transformer.attention_dim,
                "feedforward": transformer.feedforward_dim,
                "window": 0,
                "max_period": float(transformer.max_period),
                "layer_scale": False,
            },
            "latent": config.latent_dim,
            "flow_dim": flow_lm.flow.dim,
            "flow_depth": flow_lm.flow.depth,
            "flow_type": flow_lm.flow.type,
            "steps": steps,
            "precision": precision,
            "condition": flow_lm.condition_dim,
            "vocabulary": flow_lm.lookup_table.n_bins + 1,
            "table_rank": flow_lm.lookup_table.rank or 0,
            "prompt": config.mimi.conditioning_dim,
            "prompt_start": flow_lm.insert_bos_before_voice,
        }
        self._stage = _core.Backbone(pool, weights.stage("flow_lm."), shape)

    def state_from_voice(self, voice: ModelState, room: int) -> "_core.BackboneState":
        """A new stream that continues ``voice``, with room for ``room`` more positions.

        Raises:
            VoiceError: the voice is a state of another model, or damaged.
        """
        length = check_model_state(voice, self._config)
        caches = [
            np.ascontiguousarray(voice[attention_module(layer)]["cache"], dtype=np.float32)
            for layer in range(self._layers)
        ]
        return self._stage.load_state(caches, length, length + room)

    def state_from_prompt(self, latents: FloatArray) -> "_core.BackboneState":
        """A new stream that has heard the encoded prompt ``latents`` [frames, conditioning_dim]."""
        state = self._stage.new_state(len(latents) + int(self._start_row))
        for start in range(0, len(latents), _PREFILL_ROWS):
            rows = np.ascontiguousarray(latents[start : start + _PREFILL_ROWS])
            self._stage.prefill_prompt([state], [rows], self._start_row and start == 0)
        return state

    def to_model_state(self, state: "_core.BackboneState") -> ModelState:
        """The stream's memory in the exchange format of :mod:`pockettts_fast.voice_state`."""
        return {
            attention_module(layer): {
                "offset": np.array([state.position], np.int64),
                "pad": np.zeros(1, np.int64),
                "cache": cache,
            }
            for layer, cache in enumerate(state.caches())
        }

    def prefill_text(self, state: "_core.BackboneState", ids: Sequence[int]) -> None:
        """Feeds token ids; the order in the cache is start row, voice, text, then latents."""
        array = np.asarray(ids, dtype=np.int32)
        for start in range(0, len(array), _PREFILL_ROWS):
            self._stage.prefill_text([state], [array[start : start + _PREFILL_ROWS]])

    def step(
        self, states: "Sequence[_core.BackboneState]", latents: FloatArray, noise: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """One frame for each stream.

        Args:
            states: one state per stream; each advances by one position.
            latents: the previous latents, normalised, float32 ``[streams, latent_dim]``; NaN components mean
                the beginning of speech.
            noise: float32 ``[streams, latent_dim]``.

        Returns:
            The next latents (normalised) and the end-of-speech logits, ``[streams, latent_dim]`` and
            ``[streams]``.
        """
        return self._stage.step(list(states), latents, noise)
