"""Programs as people write them run without a change: near plain PyTorch in float32, and in fp8."""

import math

import pytest
import torch

from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.tests.programs.zoo import PIECES

pytestmark = pytest.mark.usefixtures("one_thread")

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
H100, FP8 = load_chip("nvidia-h100"), load_recipe("fp8")
#: Every product and sum of these is rounded to 16 bits, in another order than the host's.
SIXTEEN_BITS = {
    "gpt2_with_autocast", "gpt2_in_bfloat16", "resnet_with_autocast", "loss_scaled_by_hand"
}  # fmt: skip
#: A token, or a line search, may go another way in fp8.
FREE = {"gpt2_generates", "lbfgs"}


@pytest.mark.parametrize("name", PIECES)
def test_pieces_compute_as_in_plain_torch_and_in_fp8(name: str) -> None:
    torch.manual_seed(0)
    _, run = PIECES[name]()
    plain = run()
    torch.manual_seed(0)
    model, run = PIECES[name]()
    with emulate(IEEE, FP32, model=model):
        same = run()
    assert math.isclose(plain, same, rel_tol=0.02 if name in SIXTEEN_BITS else 2e-4)
    torch.manual_seed(0)
    model, run = PIECES[name]()
    with emulate(H100, FP8, model=model) as trace:
        narrow = run()
    assert math.isfinite(narrow)
    assert math.isclose(plain, narrow, rel_tol=0.3, abs_tol=0.05) or name in FREE
    native = trace.coverage()["native"]  # places of pixels, which PyTorch computes in float64
    assert all(what.endswith("(float64)") for what in native), native
    assert {row["format"] for row in trace.take()} & {"float8_e4m3fn", "bfloat16"}


def test_a_compiled_model_is_emulated_whether_it_ran_before_or_not() -> None:
    """Code compiled outside of the emulation must not be what runs inside of it."""
    layer, x = torch.nn.Linear(16, 16), torch.randn(4, 16)
    fast = torch.compile(layer, backend="eager")
    plain = fast(x)
    with emulate(H100, FP8, model=layer) as trace:
        narrow, same = fast(x), layer(x)
    assert torch.equal(narrow, same) and not torch.equal(narrow, plain)
    assert {row["gemm"] for row in trace.take()} == {"fprop"}
