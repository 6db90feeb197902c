"""Packed codes: exact round trips at every width, and the published layouts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeout.formats import InputError
from tapeout.formats.packing import (
    pack_codes,
    pack_nibbles,
    packed_bytes,
    unpack_codes,
    unpack_nibbles,
)

shapes = st.lists(st.integers(0, 5), max_size=2).flatmap(
    lambda rows: st.integers(0, 67).map(lambda columns: (*rows, columns))
)


def codes_of(shape: tuple[int, ...], bits: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=np.uint8)


def stream(row: np.ndarray, bits: int) -> list[int]:
    """The bytes of one row from the definition: code j has bits w j to w j + w - 1 of a number."""
    whole = sum(int(code) << (bits * j) for j, code in enumerate(row))
    return list(whole.to_bytes(packed_bytes(len(row), bits), "little"))


@settings(max_examples=150, deadline=None)
@given(shapes, st.integers(1, 8), st.integers(0, 2**31))
def test_every_width_round_trips(shape: tuple[int, ...], bits: int, seed: int) -> None:
    codes = codes_of(shape, bits, seed)
    packed = pack_codes(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (*shape[:-1], -(-shape[-1] * bits // 8))
    assert np.array_equal(unpack_codes(packed, bits, shape[-1]), codes)
    tensor = pack_codes(torch.from_numpy(codes), bits)
    assert np.array_equal(tensor.numpy(), packed)
    assert np.array_equal(unpack_codes(tensor, bits, shape[-1]).numpy(), codes)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 40), st.integers(1, 8), st.integers(0, 2**31))
def test_bytes_are_the_stream_of_bits(columns: int, bits: int, seed: int) -> None:
    codes = codes_of((3, columns), bits, seed)
    assert pack_codes(codes, bits).tolist() == [stream(row, bits) for row in codes]


def test_four_six_bit_codes_take_three_bytes() -> None:
    codes = np.array([[0b111111, 0, 0b101010, 0b000001]], np.uint8)
    assert pack_codes(codes, 6).tolist() == [[0b00111111, 0b10100000, 0b00000110]]


@pytest.mark.parametrize("columns", [0, 1, 2, 7, 64])
def test_four_bits_are_the_nibbles(columns: int) -> None:
    codes = torch.from_numpy(codes_of((5, columns), 4))
    assert torch.equal(pack_codes(codes, 4), pack_nibbles(codes))
    assert torch.equal(unpack_codes(pack_nibbles(codes), 4, columns), codes)
    assert torch.equal(unpack_nibbles(pack_codes(codes, 4), columns), codes)


def test_four_bits_are_the_layout_of_torchao() -> None:
    kernels = pytest.importorskip(
        "torchao.prototype.mx_formats.kernels", reason="torchao is not installed"
    )
    codes = torch.from_numpy(codes_of((7, 32), 4))
    assert torch.equal(pack_codes(codes, 4), kernels.pack_uint4(codes))
    assert torch.equal(unpack_codes(kernels.pack_uint4(codes), 4, 32), codes)


def test_the_input_is_not_changed_and_may_be_a_view() -> None:
    codes = codes_of((6, 20), 6)
    kept = codes.copy()
    view = pack_codes(codes[::2, ::3], 6)
    assert np.array_equal(unpack_codes(view, 6, 7), kept[::2, ::3])
    codes.flags.writeable = False
    assert np.array_equal(unpack_codes(pack_codes(codes, 6), 6, 20), kept)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pack_codes(np.array([64], np.uint8), 6), ["64", "0 to 63"]),
        (lambda: pack_codes(np.array([1], np.int64), 6), ["int64", "uint8"]),
        (lambda: pack_codes(torch.tensor([1]), 6), ["int64", "uint8"]),
        (lambda: pack_codes(np.array([1], np.uint8), 9), ["9", "1 to 8"]),
        (lambda: pack_codes(torch.tensor(1, dtype=torch.uint8), 4), ["at least one"]),
        (lambda: unpack_codes(np.zeros(2, np.uint8), 6, 3), ["2 bytes", "take 3 bytes"]),
        (lambda: unpack_codes(np.zeros(2, np.uint8), 4, -1), ["-1"]),
    ],
)
def test_bad_input_is_one_sentence_with_value_and_remedy(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as refusal:
        call()
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message
