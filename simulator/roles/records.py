"""What is remembered of products and tensors until the backward pass asks, within bounds."""

from collections.abc import Sequence

import torch
from torch._C._autograd import _get_sequence_nr
from torch.multiprocessing.reductions import StorageWeakRef

from .product import Use, address, gone, reference

NODES, USES, PINS, LEVELS = 1 << 15, 256, 4096, 4
_PRODUCTS = frozenset(
    f"{form}Backward0"
    for form in ("Mm", "Addmm", "Bmm", "Baddbmm", "Addbmm", "Mv", "Addmv", "Dot", "Convolution")
)


class Records:
    """Products by the number of their autograd node, and who stands for whom.

    Tensors are known by the address of their storage; a weak reference keeps an address from
    being given to another storage for as long as something is remembered of it.
    """

    def __init__(self) -> None:
        self._uses: dict[int, list[Use]] = {}
        self._pins: dict[int, StorageWeakRef] = {}
        self._last: dict[int, Use] = {}
        self._saved: set[int] = set()
        self._stands_for: dict[int, int] = {}
        self._sweep_at = PINS

    def use(
        self,
        a: torch.Tensor,
        b: torch.Tensor,
        places: tuple[int, int],
        names: tuple[str, str],
        layer: bool,
        module: str,
    ) -> Use:
        """What a @ b is; `places` are their storages' addresses."""
        pins = self._pins
        held = pins.get(places[0]) or self._pin(a), pins.get(places[1]) or self._pin(b)
        needed = a.requires_grad, b.requires_grad
        return Use(module, names, layer, places, (a.shape, b.shape), needed, held)

    def remember(self, use: Use) -> None:
        """Under the node that autograd made for this operation, the last one so far."""
        number = _get_sequence_nr() - 1
        uses = self._uses.get(number)
        if uses is None:
            if len(self._uses) >= 2 * NODES:  # the graphs of so long ago are gone
                self._uses = dict(list(self._uses.items())[NODES:])
            uses = self._uses[number] = []
        if len(uses) >= USES:  # an evaluation without gradients makes no nodes
            del uses[: USES // 2]
        uses.append(use)

    def remember_operands(self, use: Use) -> None:
        """The product under its operands' storages as well: the last that they were in."""
        self._last[use.addresses[0]] = self._last[use.addresses[1]] = use

    def recorded(self) -> Sequence[Use]:
        """The products of the running autograd node.

        Transforms of torch.func make one node for each of their levels before the product is
        dispatched, which has the number of the last.
        """
        node = running_node()
        uses = self._uses.get(node)
        if uses is None and node_name() in _PRODUCTS:
            following = (self._uses.get(node + level) for level in range(1, LEVELS))
            uses = next((found for found in following if found is not None), None)
        return uses or ()

    def last_use(self, place: int) -> Use | None:
        """The last forward product of a storage."""
        return self._last.get(place)

    def original(self, place: int) -> int:
        """The storage that one stands for: itself, or what it is a copy of."""
        return self._stands_for.get(place, place)

    def is_saved(self, place: int) -> bool:
        """Whether a storage is known to be of the forward pass."""
        return place in self._saved or place in self._stands_for or place in self._last

    def note_saved(self, x: torch.Tensor) -> None:
        """A tensor made again in the backward pass."""
        place = address(x)
        if place not in self._pins:
            self._pin(x)
        self._saved.add(place)

    def note_copy(self, copy: torch.Tensor, original: torch.Tensor) -> None:
        """`copy` stands for `original` in the backward pass."""
        for x in (copy, original):
            if address(x) not in self._pins:
                self._pin(x)
        self._stands_for[address(copy)] = self.original(address(original))

    def _pin(self, x: torch.Tensor) -> StorageWeakRef:
        if len(self._pins) >= self._sweep_at:
            self._sweep()
        pin = self._pins[address(x)] = reference(x)
        return pin

    def _sweep(self) -> None:
        self._pins = {i: pin for i, pin in self._pins.items() if not gone(pin)}
        self._saved &= self._pins.keys()
        self._stands_for = {i: j for i, j in self._stands_for.items() if i in self._pins}
        self._last = {i: use for i, use in self._last.items() if i in self._pins}
        self._sweep_at = max(PINS, 2 * len(self._pins))


def running_node() -> int:
    """The number of the running autograd node, -1 outside of the backward pass."""
    node = torch._C._current_autograd_node()
    return int(node._sequence_nr()) if node is not None else -1


def node_name() -> str:
    """What the running autograd node is called, "" outside of the backward pass."""
    node = torch._C._current_autograd_node()
    return str(node.name()) if node is not None else ""
