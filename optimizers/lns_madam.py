"""LNS-Madam: Madam whose step is a whole number of steps of a logarithmic number system."""

from typing import Any

import torch
from torch import Tensor

from ..formats import LogFormat, encode
from ..formats.errors import InputError
from .elementwise import ElementwiseOptimizer, Group
from .madam import begin_normalised, check_normalised, normalised
from .medians import log_format, powers
from .state import State


class LNSMadam(ElementwiseOptimizer):
    """Madam in base two, its normalised gradient rounded to a whole number.

        gn as in `Madam`;   w ← clamp(w·2^(−η·round(gn)·sign w), ±w_max),  ties of round to even

    |gn| < 1/2 gives no update. With η = 1/128 a weight moves by whole steps of a logarithmic
    number system of 7 fraction bits. With `storage` the weights live there: state "codes" holds
    the format's code, sign and exponent k, of each weight, the parameter the value of the code
    (rounded to its dtype), and the update is one integer add and a comparison,

        k ← clamp(k − η·γ·round(gn)·sign w, to the least k and that of w_max),  γ·η a whole number

    Source: Zhao, Dai, Venkatesan, Liu, Khailany, Dally, Anandkumar, IEEE Trans. Computers 71(12),
    2022, arXiv 2106.13914, and its authors' code, of which the defaults are: lr 1/128, beta
    0.999, bound 10, scale 3. The codes as state are this project's.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr: η, binades that a weight moves by in one step at gn = 1.
        beta: β of v. bound: of gn. scale: of w_max, in units of RMS(w₀).
        storage: "float", or a logarithmic format, as "lns15g128". A weight of zero is the
            format's zero and stays there; without a zero it becomes the smallest value.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, a parameter that is not real floating point, or
            η·γ not a whole number.
    """

    vectors = 1

    def __init__(
        self,
        params: Any,
        lr: float = 1 / 128,
        beta: float = 0.999,
        bound: float = 10.0,
        scale: float = 3.0,
        *,
        storage: str = "float",
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(lr=lr, beta=beta, bound=bound, scale=scale, storage=storage)
        super().__init__(params, defaults, nonfinite)

    def _check_options(self, group: Group) -> None:
        check_normalised(group, self.place)
        if group["storage"] != "float":
            whole_steps(group, log_format(group["storage"], ("float",), self.place), self.place)

    def _begin(self, p: Tensor, group: Group) -> State:
        state = begin_normalised(p, group)
        if group["storage"] != "float":
            row = log_format(group["storage"], ("float",), self.place)
            codes: Tensor = encode(p.detach().to(state["v"].dtype).cpu().reshape(-1), row)
            narrow = (
                torch.uint8 if row.bits <= 8 else torch.int16 if row.bits <= 15 else torch.int32
            )
            state["codes"] = codes.to(torch.int32).to(narrow).reshape(p.shape).to(p.device)
            p.copy_(decoded(state["codes"].int(), row, state["v"].dtype))
        return state

    def _update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        steps = normalised(g, state, group).round_()
        if group["storage"] != "float":
            row = log_format(group["storage"], ("float",), self.place)
            p.copy_(self._move_codes(state, steps.int(), row, group))
            return
        w = p.to(g.dtype)
        factor = (steps * w.sign()).mul_(-group["lr"]).exp2_()
        p.copy_((w * factor).clamp_(-state["w_max"], state["w_max"]))

    def _move_codes(self, state: State, steps: Tensor, row: LogFormat, group: Group) -> Tensor:
        """The integer update of `state["codes"]`; returns the new values."""
        codes = state["codes"].int()
        sign = codes & (1 << (row.bits - 1))
        k = codes - sign
        toward = torch.where(sign > 0, -steps, steps) * whole_steps(group, row, self.place)
        values = powers(row, state["v"].dtype, k.device)
        # The k of the largest value within ±w_max: a comparator's constant.
        top = int((values <= state["w_max"]).sum()) - 1
        least = int(row.zero)
        moved = (k - toward).clamp_(least, max(top, least))
        if row.zero:
            moved = torch.where(k == 0, k, moved)
        state["codes"].copy_(moved + sign)
        return decoded(moved + sign, row, state["v"].dtype)


def whole_steps(group: Group, row: LogFormat, place: str) -> int:
    """η·γ, the steps of the format at gn = 1.

    Raises:
        InputError: it is not a whole number.
    """
    steps = group["lr"] * row.gamma
    if steps != int(steps):
        raise InputError(
            f"{place}: lr = {group['lr']!r} times the {row.gamma} values a binade of {row.name} is "
            f'{steps:g}, not a whole number: take lr = n/{row.gamma}, or storage = "float"'
        )
    return int(steps)


def decoded(codes: Tensor, row: LogFormat, dtype: torch.dtype) -> Tensor:
    """The values of int32 codes, each rounded once to `dtype`."""
    sign = codes & (1 << (row.bits - 1))
    k = (codes - sign).reshape(-1)
    magnitudes = powers(row, dtype, codes.device).index_select(0, k).reshape(codes.shape)
    return torch.where(sign > 0, -magnitudes, magnitudes)
