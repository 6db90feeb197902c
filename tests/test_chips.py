"""Chips and recipes: what is in the library loads, what is wrong in a file is told precisely."""

from pathlib import Path

import pytest

from tapeout.formats import InputError
from tapeout.simulator import list_chips, list_recipes, load_chip, load_recipe

LIBRARY = Path(__file__).parent.parent / "simulator" / "chips"
H100, B200, MI250X, MI300X = (
    (LIBRARY / f"{name}.toml").read_text()
    for name in ("nvidia-h100", "nvidia-b200", "amd-mi250x", "amd-mi300x")
)


def test_library() -> None:
    assert {"ieee-float32", "nvidia-a100", "nvidia-h100", "intel-sapphire-rapids",
            "generic-fp8-sr", "generic-int4", "nvidia-b200", "amd-mi300x", "arm-neoverse",
            "aws-trainium", "google-tpu-v4i"} <= set(list_chips())  # fmt: skip
    assert {"fp32", "bf16", "fp8", "int4"} <= set(list_recipes())
    for name in list_chips():
        chip = load_chip(name)
        assert chip.name == name and chip.summary
        for unit in chip.matrix_units:
            assert (
                unit.describe()
                and unit.source
                and unit.basis in ("measured", "documented", "assumed")
            )


def test_instructions_choose_between_paths() -> None:
    chip = load_chip("nvidia-h100")
    assert chip.matrix_unit("e4m3", "e5m2").order.accumulator == "e8m13"
    through_half = chip.matrix_unit("e4m3", "e4m3", instruction="mma.sync")
    assert through_half.promote_every == 32
    with pytest.raises(InputError, match=r"int2 x int2.*wgmma"):
        chip.matrix_unit("int2", "int2")


def test_assumed_values_are_told() -> None:
    told = load_chip("nvidia-h100").assumptions()
    assert any("reduction" in sentence for sentence in told)
    assert load_chip("ieee-float32").assumptions() == []
    assert len(load_chip("generic-int4").assumptions()) >= 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('order = "fused"', 'order = "fuzed"', ['order = "fuzed"', "chain, fused, exact"]),
        ("block = 8", "block = 7", ["matrix_units 1", "block", "7", "multiple of 4"]),
        ("fraction_bits = 25", "fraction_bits = 60", ["fraction_bits", "60"]),
        ('a = ["tfloat32"]', 'a = ["tfloat31"]', ["tfloat31", "did you mean", "tfloat32"]),
        ('accumulator = "e8m13"', 'accumulator = "e4m3"', ["accumulator", "infinity"]),
        ('basis = "measured"', 'basis = "guessed"', ["guessed", "measured, documented, assumed"]),
        ("[vector_unit]", "[vector_unti]", ["unti", "did you mean", "vector_unit"]),
        ('functions = "rounded_once"', 'function = "host"', ["function", "functions"]),
        ('of = ["dot"]', 'of = ["dots"]', ["dots", "did you mean", "dot"]),
        ('summary = "', 'summary = ', ["not valid TOML"]),
        ("every = 32", "every = 6", ["promote_every = 6", "32"]),
        ('of = ["dot.chain"]', 'of = ["dos.chain"]', ["dos.chain", "did you mean", "dot"]),
        ('architecture = ', 'architectur = ', ["architectur", "did you mean", "architecture"]),
    ],
)  # fmt: skip
def test_faults_of_a_chip_file_are_one_sentence(
    old: str, new: str, words: list[str], tmp_path: Path
) -> None:
    assert_refused(H100, old, new, words, tmp_path)


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        (MI250X, "group = 4", "group = 3", ["matrix_units 1", "group", "3", "power of two"]),
        (MI250X, "group = 4", "groups = 4", ["groups", "did you mean", "group"]),
        (MI250X, '"positive"', '"plus"', ["flushed_inputs", "plus", "signed, positive"]),
        (MI300X, '"two_stage"', '"twostage"', ["twostage", "did you mean", "two_stage"]),
        (MI300X, "guard_bits = 32", "guard_bits = 50", ["guard_bits", "50"]),
        (MI300X, "lanes = 2", "lanes = 3", ["lanes", "3", "1, 2"]),
        (B200, '"float8_e8m0fnu", block = 32', '"float16", block = 32', ["scale", "float16"]),
        (B200, "group = 16", "group = 10", ["group", "10", "multiple of 4"]),
        (B200, "block = 16 }", "block = 24 }", ["24"]),
        (B200, "float16 = 13", "float17 = 13", ["float17", "did you mean", "float16"]),
        (B200, "float16 = 13", "float16 = 130", ["random_bits_of float16", "130"]),
        (B200, "random_bits = 8\n", "", ["random_bits"]),
    ],
)  # fmt: skip
def test_faults_in_newer_families_are_one_sentence_too(
    text: str, old: str, new: str, words: list[str], tmp_path: Path
) -> None:
    assert_refused(text, old, new, words, tmp_path)


def assert_refused(text: str, old: str, new: str, words: list[str], folder: Path) -> None:
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as refusal:
        load_chip(path)
    message = str(refusal.value)
    assert "mine.toml" in message and "\n" not in message
    assert all(word in message for word in words), message


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r'chip = "nvidia-h10".*did you mean "nvidia-h100"'):
        load_chip("nvidia-h10")
    with pytest.raises(InputError, match=r'recipe = "fp9".*fp8'):
        load_recipe("fp9")
    with pytest.raises(InputError, match=r"nowhere\.toml: no such file"):
        load_chip("nowhere.toml")
    with pytest.raises(InputError, match=r'"nearest" is not one of nearest_even'):
        load_recipe("fp8", {"rounding": "nearest"})
    with pytest.raises(InputError, match=r'unknown key "wieght".*did you mean "weight"'):
        load_recipe("fp8", {"wieght": {"format": "e4m3"}})
    with pytest.raises(InputError, match="int4 needs a scaling"):
        load_recipe("int4", {"weight": {"scaling": "none"}})


def test_override_reaches_every_layer_operand() -> None:
    recipe = load_recipe("int4", {"rounding": "nearest_even", "weight": {"format": "int8"}})
    assert [recipe.operand(r).rounding for r in ("weight", "activation", "gradient")] == [
        "nearest_even"
    ] * 3
    assert recipe.operand("weight").format == "int8"
    assert recipe.table["weight"]["scaling"] == "row"
