"""Dtypes of results, and arguments that are written, where the schema does not tell."""

from typing import Any

import torch

from .declared import base_name

Op = torch._ops.OpOverload
Dtypes = torch.dtype | tuple[torch.dtype, ...]

#: For each output, the argument whose dtype it has; None: the unit's own.
_LIKE: dict[str, tuple[int | None, ...]] = {
    "native_layer_norm": (0, None, None),
    "native_layer_norm_backward": (1, 5, 6),
    "native_group_norm": (0, None, None),
    "native_group_norm_backward": (1, 4, 4),
    "native_batch_norm": (0, None, None),
    "_native_batch_norm_legit": (0, None, None),
    "_native_batch_norm_legit_no_training": (0, None, None),
    "_batch_norm_with_update": (0, None, None, None),
    "_batch_norm_no_update": (0, None, None, None),
    "native_batch_norm_backward": (1, 2, 2),
    "batch_norm_backward": (1, 2, 2),
    "_fused_rms_norm": (0, None),
    "_fused_rms_norm_backward": (1, 4),
    "index_put": (0,),
    "_index_put_impl": (0,),
    "index_add": (0,),
    "scatter_add": (0,),
}
#: Running statistics.
_WRITTEN = {"native_batch_norm": (3, 4), "_native_batch_norm_legit": (3, 4)}
_WRITTEN["_batch_norm_with_update"] = (3, 4)


def result_dtypes(func: Op, args: Any, promoted: torch.dtype, unit: torch.dtype) -> Dtypes:
    """The dtype of each output, given that which PyTorch's promotion gives."""
    name = base_name(func)
    if name in ("_softmax", "_log_softmax"):
        return torch.float32 if args[2] else promoted
    if name in ("_softmax_backward_data", "_log_softmax_backward_data"):
        return args[3]  # type: ignore[no-any-return]
    like = _LIKE.get(name)
    if like is None:
        return promoted

    def dtype_of(n: int | None) -> torch.dtype:
        if n is None:
            return unit
        return args[n].dtype if isinstance(args[n], torch.Tensor) else promoted

    return tuple(dtype_of(n) for n in like)


def written(func: Op) -> tuple[int, ...]:
    """The positions of arguments that the operation writes besides its results."""
    return () if func._overloadname == "no_stats" else _WRITTEN.get(base_name(func), ())
