"""Backward passes at torch's one entry to its engine, whichever function the program calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import graph

Run = Callable[..., Any]
Wrapper = Callable[[Run, Sequence[Any], Sequence[Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def wrapped_engine(wrapper: Wrapper) -> Iterator[None]:
    """`backward`, `torch.autograd.backward`, `torch.autograd.grad` go through `wrapper`.

    All of them call `_engine_run_backward(outputs, grad_outputs, retain_graph, create_graph,
    inputs, ...)`, a name that torch.autograd and torch.autograd.graph both hold.
    """
    engine: Run = graph._engine_run_backward

    def run(outputs: Sequence[Any], roots: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        return wrapper(engine, outputs, roots, args, kwargs)

    holders: tuple[Any, ...] = (graph, torch.autograd)
    for holder in holders:
        holder._engine_run_backward = run
    try:
        yield
    finally:
        for holder in holders:
            holder._engine_run_backward = engine


def leaves_of(outputs: Sequence[Any]) -> list[Tensor]:
    """The leaves that a backward pass from `outputs` may add gradients to, each once."""
    nodes = [node for x in outputs if (node := _node(x)) is not None]
    seen, found = set(nodes), dict[int, Tensor]()
    while nodes:
        node = nodes.pop()
        if node.name() == "torch::autograd::AccumulateGrad":
            found[id(node.variable)] = node.variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return list(found.values())


def _node(output: Any) -> Any:
    if isinstance(output, graph.GradientEdge):
        return output.node
    if output.grad_fn is None and output.requires_grad:
        return graph.get_gradient_edge(output).node
    return output.grad_fn
