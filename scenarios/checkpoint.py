"""The state of a run in one safetensors file: nothing in it is ever executed on reading.

Tensors go into the file as tensors; numbers, strings and the nesting of dictionaries, lists and
tuples go into its metadata as JSON, with a SHA-256 of everything, checked on reading.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from .storage import DamagedFile, write_bytes

# One key only: safetensors writes its metadata in no fixed order.
KEY = "tapeout"
# Whatever a file that somebody else wrote can make the readers below stumble over.
_FAULTS = (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError,
           RecursionError)  # fmt: skip


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, nested dictionaries, lists and tuples of tensors and plain scalars.

    Raises:
        TypeError: something in `state` is neither; the sentence says what and where.
        InputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_pack(state, "state", tensors))
    metadata = json.dumps({"tree": tree, "sha256": _checksum(tree, tensors)})
    write_bytes(path, safetensors_torch.save(tensors, {KEY: metadata}))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given.

    Raises:
        DamagedFile: the file is missing, truncated or altered.
    """
    try:
        with safe_open(str(path), "pt") as file:
            metadata = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        if metadata["sha256"] != _checksum(metadata["tree"], tensors):
            raise ValueError("its checksum does not match its content")
        state: dict[str, Any] = _unpack(json.loads(metadata["tree"]), tensors)
        if not isinstance(state, dict):
            raise TypeError("it does not hold a table")
    except _FAULTS as error:
        raise DamagedFile(f"{path}: is damaged or missing: {error}") from None
    return state


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved to `tensors` and named after their place in the tree."""
    if isinstance(value, Tensor):
        # The number keeps the names apart where keys 1 and "1" give the same place.
        name = f"{len(tensors)}.{place}"
        tensors[name] = value.detach().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(
                    f"checkpoint: {place} has the key {key!r}: neither text nor integer"
                )
        return {"dict": [[k, _pack(v, f"{place}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(v, f"{place}.{i}", tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"checkpoint: {place} is a {type(value).__name__}: only tensors and scalars")


def _unpack(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(value, tensors) for key, value in content}
    items = [_unpack(value, tensors) for value in content]
    return tuple(items) if kind == "tuple" else items


def _checksum(tree: str, tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
