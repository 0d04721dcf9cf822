"""Activations and their derivatives inside Triton kernels, float32."""

from typing import Final

import triton
import triton.language as tl

_ROOT_HALF: Final = tl.constexpr(0.7071067811865476)
_ROOT_TWO_OVER_PI: Final = tl.constexpr(0.7978845608028654)
_CUBIC: Final = tl.constexpr(0.044715)
_DENSITY: Final = tl.constexpr(0.3989422804014327)


@triton.jit
def _tanh(x):
    shrink = tl.exp(-2 * tl.abs(x))
    size = (1 - shrink) / (1 + shrink)
    return tl.where(x < 0, -size, size)


@triton.jit
def gelu(x, TANH: tl.constexpr):
    """GELU, exact or by tanh."""
    if TANH:
        return 0.5 * x * (1 + _tanh((x + x * x * x * _CUBIC) * _ROOT_TWO_OVER_PI))
    return 0.5 * x * (1 + tl.erf(x * _ROOT_HALF))


@triton.jit
def gelu_slope(x, TANH: tl.constexpr):
    """Derivative of `gelu`."""
    if TANH:
        t = _tanh((x + x * x * x * _CUBIC) * _ROOT_TWO_OVER_PI)
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (1 + x * x * 3 * _CUBIC) * _ROOT_TWO_OVER_PI
    return 0.5 * (1 + tl.erf(x * _ROOT_HALF)) + x * tl.exp(-0.5 * x * x) * _DENSITY
