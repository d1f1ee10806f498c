"""The conv net of few-shot learning, written with array operations alone.

A block is a 3 × 3 convolution with padding 1 and stride 2, batch norm, and a ReLU; features are the last output,
flattened.  Strides stand where other nets have max-pooling: so has the source problem's net for Omniglot (Finn et al.
2017), and the paper leaves it open.  Convolutions have no bias: batch norm would take it away again.

A convolution is a product: the nine neighbours of every output pixel side by side, (…, 9·C_in) @ (9·C_in, C_out).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Tree = Any

KERNEL = 3
EPS = 1e-5  # beside the variance


def initial(rng: np.random.Generator, blocks: int, filters: int) -> dict[str, dict[str, np.ndarray]]:
    """λ_0 for one input channel, in NumPy: He et al.'s normal weights (KERNEL·KERNEL·C_in, C_out), gains 1, biases 0.

    Row (KERNEL·j + i)·C_in + c of a weight meets row i, column j of the neighbourhood in channel c.
    """
    net, channels = {}, 1
    for block in range(blocks):
        fan_in = KERNEL * KERNEL * channels
        net[f"block{block}"] = {
            "weight": rng.standard_normal((fan_in, filters)) * np.sqrt(2 / fan_in),
            "gain": np.ones(filters),
            "bias": np.zeros(filters),
        }
        channels = filters
    return net


def width(side: int, blocks: int, filters: int) -> int:
    """The number of features of a side × side image."""
    for _ in range(blocks):
        side = -(-side // 2)
    return side * side * filters


def features(bk: Any, net: Tree, images: Any) -> Any:
    """(E, n, side, side) → (E, n, width).  Statistics are those of the n images of each of E batches, no other."""
    x = images[..., None]
    for block in (net[f"block{i}"] for i in range(len(net))):
        x = normalised(bk, _neighbours(bk, x) @ block["weight"], block["gain"], block["bias"])
        x = bk.relu(x)
    return bk.xp.reshape(x, (*x.shape[:2], -1))


def normalised(bk: Any, x: Any, gain: Any, bias: Any) -> Any:
    """Batch norm of (E, n, H, W, C): mean and variance of each batch and channel over n, H and W."""
    xp = bk.xp
    centred = x - xp.mean(x, axis=(1, 2, 3), keepdims=True)
    variance = xp.mean(centred * centred, axis=(1, 2, 3), keepdims=True)
    return centred * (gain / xp.sqrt(variance + EPS)) + bias


def _neighbours(bk: Any, x: Any) -> Any:
    """(E, n, H, W, C) → (E, n, ⌈H/2⌉, ⌈W/2⌉, 9·C): first three rows side by side, then three columns of these."""
    return _threes(bk, _threes(bk, x, 2), 3)


def _threes(bk: Any, x: Any, axis: int) -> Any:
    """Positions 2i − 1, 2i, 2i + 1 along an axis, beside each other in the channels; zeros beyond the border."""
    xp, size = bk.xp, x.shape[axis]
    half = -(-size // 2)

    def at(*where: Any) -> tuple:
        return (slice(None),) * axis + where

    border = xp.zeros_like(x[at(slice(0, 1))])
    padded = xp.concat([border, x, border] if size % 2 else [border, x], axis=axis)
    return xp.concat([padded[at(slice(a, a + 2 * half - 1, 2))] for a in range(KERNEL)], axis=-1)
