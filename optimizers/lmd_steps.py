"""What a step of LMD does to one block: gradients to u±, a step, the next sample."""

from collections.abc import Iterator, Sequence

import torch

from .components import advance, drawn, log_gradient
from .lmd_blocks import Block, Total
from .lmd_fused import fusible, renewed, stepped
from .noise import Place


def draw(block: Block, place: Place, sigma: float, keep: bool, fused: bool) -> None:
    """Write a block's sample of draw `place` into its parameters; `keep`: into the state too."""
    block.room_for_sample(keep and sigma > 0)
    if fused and fusible(block):
        renewed(block, place, sigma)
        return
    for cut in block.cuts:
        state = block.cut(cut)
        sample = drawn(state, block.group, sigma, block.place(place, cut))
        block.write(sample, cut)
        if "sample" in state:
            state["sample"].copy_(sample)


def shares(block: Block, place: Place, samples: int) -> Iterator[Total]:
    """Every cut's share of u± from the sample of draw `place`, one of `samples` in a step."""
    gradient, present = block.gradient()
    if gradient is None:
        return
    for cut in block.cuts:
        state = block.cut(cut)
        sample = state.get("sample")
        if sample is None:
            sample = drawn(state, block.group, block.group["drawn_sigma"], block.place(place, cut))
        share = gradient[cut].to(sample.dtype)
        if samples > 1:
            share = share / samples
        yield block, cut, log_gradient(block.group, sample, share), present


def step(
    block: Block,
    totals: Sequence[Total] | None,
    places: tuple[Place, Place, Place],
    keep: bool,
    fused: bool,
) -> None:
    """One step from `totals`, or from the gradients and the sample; then the next sample.

    places: of the sample at hand, of the next, and of roundings.
    """
    group = block.group
    if not (fused and fusible(block)):
        for _, cut, u, present in shares(block, places[0], 1) if totals is None else totals:
            _advance(block, cut, u, present, places[2])
        draw(block, places[1], group["sigma"], keep, fused)
        return
    given = None if not totals else torch.cat([u for _, _, u, _ in totals], dim=-1)
    present = block.present() if totals is None else totals[0][3] if totals else []
    stepped(block, given, present, places[:2], (group["drawn_sigma"], group["sigma"]))
    kept = keep and group["sigma"] > 0
    if kept != ("sample" in block.state):
        draw(block, places[1], group["sigma"], keep, fused)


def _advance(
    block: Block, cut: slice, u: torch.Tensor, present: list[bool], rounding: Place
) -> None:
    """One step of a cut's medians and momenta, of those parameters with a gradient."""
    if all(present):
        advance(block.cut(cut), block.group, u, block.place(rounding, cut))
        return
    for i, there in enumerate(present):
        if there:
            place = block.place(rounding, cut, i)
            advance(block.states[i], block.group, block.part(u, i), place)
