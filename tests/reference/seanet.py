"""SEANet encoder and decoder over a whole signal, from upstream's modules.seanet and modules.conv."""

import numpy as np

from pockettts_fast.config import SEANetConfig
from reference.formulas import Weights, elu, product


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    replicate: bool = False,
) -> np.ndarray:
    """Causal convolution: x [rows, in], weight [out, in, kernel] -> [rows / stride, out].

    In front stand kernel - stride rows (dilated), zeros or copies of the first row.
    """
    outputs, _, kernel = weight.shape
    pad = (kernel - 1) * dilation + 1 - stride
    front = np.repeat(x[:1], pad, axis=0) if replicate else np.zeros((pad, x.shape[1]), x.dtype)
    padded = np.concatenate([front, x])
    at = np.arange(len(x) // stride)[:, None] * stride + np.arange(kernel) * dilation
    columns = padded[at].reshape(len(at), -1)  # [rows, kernel * in]
    y = product(columns, weight.transpose(0, 2, 1).reshape(outputs, -1))
    return y if bias is None else y + bias


def conv_transpose(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int) -> np.ndarray:
    """x [rows, in], weight [in, out, kernel] -> [rows * stride, out]; what comes later is cut off."""
    outputs, kernel = weight.shape[1:]
    y = np.zeros(((len(x) - 1) * stride + kernel, outputs), x.dtype)
    for tap in range(kernel):
        y[tap : tap + len(x) * stride : stride] += product(x, weight[:, :, tap].T)
    y = y[: len(x) * stride]
    return y if bias is None else y + bias


class _Layers:
    """The numbered modules of a half, taken one after the other."""

    def __init__(self, weights: Weights, prefix: str, config: SEANetConfig) -> None:
        self._weights, self._prefix, self._config = weights, prefix, config
        self.index = 0

    def _tensors(self, kind: str, part: str = "") -> tuple[np.ndarray, np.ndarray]:
        name = f"{self._prefix}model.{self.index}.{part}{kind}"
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]

    def _replicate(self) -> bool:
        return self._config.pad_mode == "replicate"

    def conv(self, x: np.ndarray, stride: int = 1) -> np.ndarray:
        y = conv(x, *self._tensors("conv"), stride=stride, replicate=self._replicate())
        self.index += 1
        return y

    def conv_transpose(self, x: np.ndarray, stride: int) -> np.ndarray:
        y = conv_transpose(x, *self._tensors("convtr"), stride)
        self.index += 1
        return y

    def elu(self, x: np.ndarray) -> np.ndarray:
        self.index += 1
        return elu(x)

    def residuals(self, x: np.ndarray) -> np.ndarray:
        for j in range(self._config.n_residual_layers):
            dilation = self._config.dilation_base**j
            inner = conv(elu(x), *self._tensors("conv", "block.1."), dilation=dilation, replicate=self._replicate())
            x = x + conv(elu(inner), *self._tensors("conv", "block.3."))
            self.index += 1
        return x


def decode(weights: Weights, prefix: str, x: np.ndarray, config: SEANetConfig) -> np.ndarray:
    """x [rows, dimension] -> [rows * hop, channels]; no final activation."""
    layers = _Layers(weights, prefix, config)
    x = layers.conv(x)
    for ratio in config.ratios:
        x = layers.residuals(layers.conv_transpose(layers.elu(x), ratio))
    return layers.conv(layers.elu(x))


def encode(weights: Weights, prefix: str, x: np.ndarray, config: SEANetConfig) -> np.ndarray:
    """x [rows, channels] -> [rows / hop, dimension]."""
    layers = _Layers(weights, prefix, config)
    x = layers.conv(x)
    for ratio in reversed(config.ratios):
        x = layers.conv(layers.elu(layers.residuals(x)), stride=ratio)
    return layers.conv(layers.elu(x))
