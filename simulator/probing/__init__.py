"""Probing: the order, widths and roundings of a dot product, from its outputs alone.

`probe` takes a `Target`: a callable, a unit of the simulator, or this machine's torch.matmul. The
tree of the sum is revealed by masks (FPRev, arXiv 2411.00442), the widths by targeted vectors;
where an order family states what was found, `chip_text` writes it as a chip.
"""

from .construction import Revealed, reveal
from .expected import tree_of
from .node import C, Node, show_tree
from .profile import Probed, probe
from .structure import Structure, find_structure
from .target import Target, function_target, torch_target, unit_target
from .text import chip_text, facts, sentences
from .widths import Finding, measure

__all__ = [
    "C",
    "Finding",
    "Node",
    "Probed",
    "Revealed",
    "Structure",
    "Target",
    "chip_text",
    "facts",
    "find_structure",
    "function_target",
    "measure",
    "probe",
    "reveal",
    "sentences",
    "show_tree",
    "torch_target",
    "tree_of",
    "unit_target",
]
