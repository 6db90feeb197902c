"""Triton's conversions, in its interpreter on tensors in memory, against the CPU kernels."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tapeout.formats import InputError, Stochastic, decode, encode, get_format, quantize
from tapeout.formats.blocks.codes import BlockCodes
from tapeout.formats.device.place import NoKernel, host_fallback, host_tensors_too, on_device

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("the interpreter is for machines without a GPU", allow_module_level=True)

ROUNDINGS = (
    "nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd", Stochastic(1),
    Stochastic(8), Stochastic(13, "srf"), Stochastic(16, "src"), Stochastic(28),
    Stochastic(32, "srf"),
)  # fmt: skip
POLICIES = ("saturate", "propagate", "infinity", "nan", "wrap")
FORMATS = ("e4m3", "e5m2", "e4m3fnuz", "e2m1", "bfloat16", "float16", "tf32", "e8m0", "float32",
           "int8", "int4_symmetric", "uint8", "q3.4")  # fmt: skip


def numbers(size: int = 700) -> Tensor:
    """Normal numbers of many sizes, ties, ends of ranges, subnormals, zeros, infinities, NaN."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(size) * 2.0 ** rng.integers(-45, 45, size)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38, 2.0**-126, 1e-40,
            448.0, 464.0, 480.0, -464.0, 57344.0, 61440.0, 127.5, -128.5, 2.0**-9, 2.0**-10, 6.0,
            7.0, 5.0, 2.5, 0.5, 1.5, 65504.0, 65520.0, 2.0**31, 2.0**40]  # fmt: skip
    return torch.tensor(np.concatenate([x, ends]), dtype=torch.float32)


def assert_same_bits(got: Tensor, want: Tensor) -> None:
    """Equal bits, NaN payloads aside."""
    assert got.dtype == want.dtype and got.shape == want.shape
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
    a, b = (
        x.contiguous().view(torch.int16) if x.dtype is torch.bfloat16 else x for x in (got, want)
    )
    p, q = a.numpy(), b.numpy()
    kind = unsigned[p.dtype.itemsize]
    differ = (p.view(kind) != q.view(kind)) & ~((p != p) & (q != q))
    assert not differ.any(), (np.argwhere(differ)[:3], p[differ][:3], q[differ][:3])


def both(call: Callable[[], Any]) -> list[Any]:
    """The result or the refusal, on the host and by the kernels."""
    found: list[Any] = []
    for there in (False, True):
        try:
            if there:
                with host_tensors_too():
                    found.append(call())
            else:
                found.append(call())
        except InputError as error:
            found.append(str(error))
    return found


def compare_conversions(name: str, ways: Iterable[tuple[str | Stochastic, str]]) -> None:
    """quantize and encode in each of the ways, decode in the end."""
    single, compared = numbers(), 0
    clean = torch.nan_to_num(single, 1.0, 2.0**20, -(2.0**20))
    has_nan = getattr(get_format(name), "grid").has_nan  # noqa: B009, a codebook has none
    for n, (rounding, policy) in enumerate(ways):
        x = single if has_nan else clean
        x = x.double() * (1 + 2.0**-40) if n % 3 == 2 else x
        options: dict[str, Any] = {
            "rounding": rounding,
            "overflow": policy,
            "seed": 2**40 + 3,
            "stream": 5,
        }
        want, got = both(lambda: quantize(x, name, **options))  # noqa: B023, called at once
        if isinstance(want, str):
            assert got == want
            continue
        assert_same_bits(got, want)
        want, got = both(lambda: encode(x, name, **options))  # noqa: B023
        assert_same_bits(got, want)
        compared += 1
    want, got = both(lambda: decode(encode(clean, name), name))
    assert_same_bits(got, want)
    assert compared >= 3


@pytest.mark.parametrize("name", FORMATS)
def test_conversions_equal_the_cpu_kernels_to_the_bit(name: str) -> None:
    """Every rounding, with the policies in turn."""
    policies = itertools.cycle(POLICIES if name.startswith(("int", "uint", "q")) else POLICIES[:4])
    compare_conversions(name, zip(ROUNDINGS, policies, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_rounding_with_every_policy(name: str) -> None:
    compare_conversions(name, itertools.product(ROUNDINGS, POLICIES))


def test_narrow_dtypes_flushes_and_given_bits() -> None:
    x = numbers()
    for dtype in (torch.bfloat16, torch.float16):
        want, got = both(lambda: quantize(x.to(dtype), "e4m3", overflow="infinity"))  # noqa: B023
        assert_same_bits(got, want)
    for flush in ("inputs", "outputs", "both"):
        for call in (quantize, encode):
            want, got = both(lambda: call(x, "e5m2", flush=flush, overflow="infinity"))  # noqa: B023
            assert_same_bits(got, want)
    given = np.arange(x.numel()) % 16
    options: dict[str, Any] = {"rounding": Stochastic(4), "random_bits": given}
    want, got = both(lambda: quantize(x, "e4m3", **options))
    assert_same_bits(got, want)
    want, got = both(lambda: quantize(x, "e4m3", rounding=Stochastic(8, source="lfsr16")))
    assert (
        got == want
        if isinstance(want, str)
        else torch.equal(torch.nan_to_num(got), torch.nan_to_num(want))
    )


@pytest.mark.parametrize("name", ["posit8es0", "linear2_4bit", "e5m0", "dlfloat16"])
def test_tables_of_values_equal_the_cpu(name: str) -> None:
    x = torch.nan_to_num(numbers(), 1.0)
    for rounding in ROUNDINGS[:6]:
        for policy in ("saturate", "infinity"):
            want, got = both(lambda: quantize(x, name, rounding=rounding, overflow=policy))  # noqa: B023
            if isinstance(want, str):
                assert got == want
                continue
            assert_same_bits(got, want)
            want, got = both(lambda: decode(encode(x, name, rounding=rounding), name))  # noqa: B023
            assert_same_bits(got, want)


def matrix() -> Tensor:
    """Blocks of many sizes: zeros, an infinity, a NaN, subnormals, numbers near the end."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((6, 80)) * 2.0 ** rng.integers(-30, 30, (6, 1))).astype(np.float32)
    x[0] = 0
    x[1, 3], x[2, 7], x[3] = np.inf, np.nan, 1e-43
    x[4, :32] = 3e38
    return torch.from_numpy(x)


@pytest.mark.parametrize(
    "name",
    [
        "mxfp8_e4m3",
        "nvfp4",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("mxfp6_e3m2", "mxfp4", "mxint8", "float8_e4m3fn_128x128", "int4_g32")
        ),
    ],
)
@pytest.mark.parametrize(
    ("rounding", "axis"), [("nearest_even", None), ("up", None), (Stochastic(8), -2)]
)
def test_blocks_equal_the_cpu(name: str, rounding: str | Stochastic, axis: int | None) -> None:
    for x in (matrix(), matrix().double(), torch.nan_to_num(matrix())):
        options: dict[str, Any] = {"rounding": rounding, "axis": axis, "seed": 3}
        want, got = both(lambda: quantize(x, name, **options))  # noqa: B023
        if isinstance(want, str):
            assert got == want
            continue
        assert_same_bits(got, want)
        want, got = both(lambda: encode(x, name, **options))  # noqa: B023
        assert isinstance(got, BlockCodes)
        assert repr(got.tensor_scale) == repr(want.tensor_scale)  # NaN too
        assert_same_bits(got.codes, want.codes)
        assert_same_bits(got.scales, want.scales)
        with host_tensors_too():
            back = decode(got)
        assert_same_bits(back, decode(want))


def test_what_has_no_kernel_is_refused_by_name_or_left_to_the_host_if_asked() -> None:
    x, told = torch.linspace(-1, 1, 40), list[str]()
    options: dict[str, Any] = {"rounding": Stochastic(8), "seed": 1}
    with host_tensors_too():
        with pytest.raises(NoKernel, match=r"posit8.* has no kernel for CUDA.*host_fallback=True"):
            quantize(x, "posit8es0", **options)
        with pytest.raises(NoKernel, match="zero points"):
            quantize(x, "uint4_g32")
        with host_fallback(told.append):
            got = quantize(x, "posit8es0", **options)
            coded = encode(x, "uint4_g32")
    assert torch.equal(got, quantize(x, "posit8es0", **options))
    assert torch.equal(coded.codes, encode(x, "uint4_g32").codes)
    assert ["posit8" in told[0], "uint4_g32" in told[1]] == [True, True] and len(told) == 2


def test_a_tensor_says_where_it_is_computed() -> None:
    assert not on_device(torch.ones(1)) and not on_device(np.ones(1))
    with host_tensors_too():
        assert on_device(torch.ones(1)) and not on_device(np.ones(1))
    assert not on_device(torch.ones(1))
    with pytest.raises(InputError, match="tensor on meta: there are kernels for cpu and cuda"):
        on_device(torch.ones(1, device="meta"))
    with pytest.raises(InputError, match=r"pass x.cpu\(\)"):
        encode(torch.ones(1, device="meta"), "e4m3")


def test_a_cuda_tensor_goes_to_the_kernels_or_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tapeout.formats.device import place

    class Pretended(Tensor):
        """A tensor whose device is said to be a GPU."""

        device = torch.device("cuda", 0)

    x = torch.ones(1).as_subclass(Pretended)
    assert on_device(x)
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"Triton is not installed: pip install .tapeout\[gpu\]"):
        on_device(x)
    monkeypatch.setattr(torch.version, "hip", "6.0")
    with pytest.raises(InputError, match="AMD GPU"):
        on_device(x)
