"""FLOPs of single operations, by their schema: 2 for a multiply-add, attention counted in full.

Each formula takes the operation's arguments by name, and its result. torch.utils.flop_counter has formulas as well;
these are right for grouped convolutions too, the same for all attention kernels, and count only the gradients that
``output_mask`` asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

Arguments = Mapping[str, Any]
Formula = Callable[[Arguments, Any], int]


def _matmul(left: str, right: str) -> Formula:
    """Return the formula of ``left`` (…, m, k) times ``right`` (…, k, n): 2 m k n for each matrix of a batch."""
    return lambda a, out: int(2 * a[left].numel() * a[right].shape[-1])


def _matrix_vector(matrix: str) -> Formula:
    """Return the formula of a matrix times a vector, or of the dot product of two vectors: 2 for each element."""
    return lambda a, out: int(2 * a[matrix].numel())


def _outer(a: Arguments, out: Any) -> int:
    """Count the outer product that ``addr`` adds, of vectors of m and n elements: 2 m n."""
    return int(2 * a["vec1"].numel() * a["vec2"].numel())


def _many_matmuls(a: Arguments, out: Any) -> int:
    """Count ``_foreach_mm``, which multiplies lists of matrices."""
    return sum(2 * left.numel() * right.shape[-1] for left, right in zip(a["self"], a["mat2"], strict=True))


def _grouped_matmul(a: Arguments, out: Any) -> int:
    """Count the matmuls of experts.

    Of (m, k) times (groups, k, n) each row is multiplied in one group; of two matrices each column of k. Rows or
    columns without a group are counted as if they had one.
    """
    left, right = a["self"], a["mat2"]
    rows, inner = left.shape[-2:]
    groups = left.shape[0] if left.dim() == right.dim() == 3 else 1
    return 2 * int(groups * rows * inner * right.shape[-1])


def _linear(a: Arguments, out: Any) -> int:
    source: Tensor = a["input"] if "input" in a else a["self"]
    weight: Tensor = a["weight"]
    return 2 * source.numel() * weight.shape[0]


def _linear_backward(a: Arguments, out: Any) -> int:
    return _linear(a, out) * int(sum(a["output_mask"][:2]))


def _products(weight: Tensor, dense: Tensor) -> int:
    """Count a convolution: each weight once for each position of each sample in ``dense``, the side without padding.

    ``dense`` (samples, weight.shape[0] channels, positions …) is the result, or the input of a transposed convolution.
    As a weight has the shape (out, in / groups, …), or (in, out / groups, …) if transposed, groups need no factor.
    Positions in the padding are counted.
    """
    return 2 * weight.numel() * dense.numel() // max(weight.shape[0], 1)


def _convolution(a: Arguments, out: Any) -> int:
    source = a["input"] if "input" in a else a["self"]
    return _products(a["weight"], source if a.get("transposed") else out)


def _transposed_convolution(a: Arguments, out: Any) -> int:
    return _products(a["weight"], a["self"])


def _convolution_backward(a: Arguments, out: Any) -> int:
    """Count the gradients of input and weight that are asked for; each costs as much as the forward pass."""
    dense = a["input"] if a["transposed"] else a["grad_output"]
    return _products(a["weight"], dense) * int(sum(a["output_mask"][:2]))


def _convolution_tbc(a: Arguments, out: Any) -> int:
    """Count a convolution with a weight (positions, in, out) and a result (time, batch, out)."""
    weight: Tensor = a["weight"]
    return int(2 * weight.numel() * out.numel() // max(weight.shape[-1], 1))


def _deformable_convolution(a: Arguments, out: Any) -> int:
    return _products(a["weight"], out)


def _deformable_convolution_backward(a: Arguments, out: Any) -> int:
    """Count two products.

    One gives the gradients of input, offset and mask; the other one the gradient of the weight.
    """
    return 2 * _products(a["weight"], a["grad"])


def _pair(left: Sequence[int], right: Sequence[int], summed: Sequence[int]) -> tuple[int, list[int]]:
    """Return the FLOPs of torch's ``sumproduct_pair``, and the result's shape with summed dimensions kept as 1.

    A summed dimension that only one side has is summed before the two are multiplied. Without a common one they are
    multiplied elementwise, which counts 0.
    """
    both = [d for d in summed if left[d] > 1 and right[d] > 1]
    shape = [1 if d in summed else max(sizes) for d, sizes in enumerate(zip(left, right, strict=True))]
    return (2 * math.prod(shape) * math.prod(left[d] for d in both) if both else 0), shape


def _trilinear(a: Arguments, out: Any) -> int:
    """Count nn.Bilinear and its gradients as ATen computes them: two of the three tensors first, then the third."""
    shapes = []
    for tensor, expand in ((a["i1"], a["expand1"]), (a["i2"], a["expand2"]), (a["i3"], a["expand3"])):
        shape = list(tensor.shape)
        for d in sorted(expand):
            shape.insert(d, 1)
        shapes.append(shape)
    summed = list(a["sumdim"])
    first = [d for d in summed if d in a["expand3"]]
    flops, between = _pair(shapes[0], shapes[1], first)
    last, _ = _pair(between, shapes[2], [d for d in summed if d not in first])
    return flops + last


def _scores(query: Sequence[int], key: Sequence[int], width: int) -> int:
    """Count queries (batch, heads, queries, …) times keys (batch, …, keys, …), each a product over ``width``.

    Keys may have fewer heads than queries; each then serves several.
    """
    return int(2 * math.prod(query[:3]) * key[-2] * width)


def _attention(a: Arguments, out: Any) -> int:
    query, key, value = a["query"].shape, a["key"].shape, a["value"].shape
    return _scores(query, key, query[-1] + value[-1])


def _attention_backward(a: Arguments, out: Any) -> int:
    """Count twice the forward pass: the gradients of queries, keys, values and scores.

    Scores that a kernel recomputes are not counted: the choice of a kernel is not a property of the model.
    """
    return 2 * _attention(a, out)


def _flat_attention(a: Arguments, out: Any) -> int:
    """Count tensors (batch, length, heads, width); with ``cum_seq_q``, concatenated sequences of different lengths."""
    query, key, value = a["query"], a["key"], a["value"]
    starts = a.get("cum_seq_q", a.get("cu_seqlens_q"))
    if starts is None:
        pairs = query.shape[0] * query.shape[1] * key.shape[1]
    else:
        of_keys = a.get("cum_seq_k", a.get("cu_seqlens_k"))
        lengths = zip(starts.diff().tolist(), (starts if of_keys is None else of_keys).diff().tolist(), strict=True)
        pairs = sum(queries * keys for queries, keys in lengths)
    return 2 * int(pairs * query.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _flat_attention_backward(a: Arguments, out: Any) -> int:
    return 2 * _flat_attention(a, out)


def _recurrent(a: Arguments, out: Any) -> int:
    """Count kernels for whole RNNs: every weight matrix once for each position of each sequence."""
    weights = a["weight"] if "weight" in a else [value for name, value in a.items() if name.startswith("weight")]
    source: Tensor = a["input"]
    places = source.numel() // max(source.shape[-1], 1)
    return 2 * places * sum(int(weight.numel()) for weight in weights if weight.dim() == 2)


def _recurrent_backward(a: Arguments, out: Any) -> int:
    return 2 * _recurrent(a, out)


_FLASH = ("flash_attention", "efficient_attention", "cudnn_attention", "fused_attention_overrideable")
_SDPA = (*(f"_scaled_dot_product_{name}" for name in _FLASH), "_scaled_dot_product_flash_attention_for_cpu")

FORMULAS: dict[str, Formula] = {
    "aten::mm": _matmul("self", "mat2"),
    "aten::addmm": _matmul("mat1", "mat2"),
    "aten::_addmm_activation": _matmul("mat1", "mat2"),
    "aten::_int_mm": _matmul("self", "mat2"),
    "aten::_scaled_mm": _matmul("self", "mat2"),
    "aten::_scaled_mm_v2": _matmul("self", "mat2"),
    "aten::bmm": _matmul("self", "mat2"),
    "aten::baddbmm": _matmul("batch1", "batch2"),
    "aten::addbmm": _matmul("batch1", "batch2"),
    "aten::_foreach_mm": _many_matmuls,
    "aten::_grouped_mm": _grouped_matmul,
    "aten::_scaled_grouped_mm": _grouped_matmul,
    "aten::_scaled_grouped_mm_v2": _grouped_matmul,
    "aten::mv": _matrix_vector("self"),
    "aten::addmv": _matrix_vector("mat"),
    "aten::dot": _matrix_vector("self"),
    "aten::vdot": _matrix_vector("self"),
    "aten::addr": _outer,
    "aten::linear": _linear,
    "aten::mkldnn_linear": _linear,
    "aten::linear_backward": _linear_backward,
    "aten::mkldnn_linear_backward": _linear_backward,
    "aten::_trilinear": _trilinear,
    **dict.fromkeys(
        (
            *("aten::convolution", "aten::_convolution", "aten::convolution_overrideable", "aten::cudnn_convolution"),
            *("aten::cudnn_convolution_relu", "aten::cudnn_convolution_add_relu", "aten::mkldnn_convolution"),
            *("aten::miopen_convolution", "aten::miopen_depthwise_convolution", "aten::_nnpack_spatial_convolution"),
            *("aten::miopen_convolution_relu", "aten::miopen_convolution_add_relu", "aten::_conv_depthwise2d"),
            *("aten::conv_depthwise3d", "aten::slow_conv_dilated2d", "aten::slow_conv_dilated3d"),
        ),
        _convolution,
    ),
    "aten::cudnn_convolution_transpose": _transposed_convolution,
    "aten::miopen_convolution_transpose": _transposed_convolution,
    "aten::slow_conv_transpose2d": _transposed_convolution,
    "aten::slow_conv_transpose3d": _transposed_convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::convolution_backward_overrideable": _convolution_backward,
    "aten::conv_tbc": _convolution_tbc,
    "torchvision::deform_conv2d": _deformable_convolution,
    "torchvision::_deform_conv2d_backward": _deformable_convolution_backward,
    **{f"aten::{name}": _attention for name in _SDPA},
    **{f"aten::{name}_backward": _attention_backward for name in _SDPA},
    "aten::mkldnn_rnn_layer": _recurrent,
    "aten::mkldnn_rnn_layer_backward": _recurrent_backward,
    "aten::_cudnn_rnn": _recurrent,
    "aten::_cudnn_rnn_backward": _recurrent_backward,
    "aten::_flash_attention_forward": _flat_attention,
    "aten::_flash_attention_backward": _flat_attention_backward,
    "aten::_efficient_attention_forward": _flat_attention,
    "aten::_efficient_attention_backward": _flat_attention_backward,
}
