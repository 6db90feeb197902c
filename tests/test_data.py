"""Data that needs no download, and data of the user's own: what is read, and what is refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import datasets.config
import numpy as np
import pytest
import torch
from PIL import Image

from tapeout.formats import InputError
from tapeout.scenarios.data import Examples, data_inputs, load_data
from tapeout.scenarios.data.arrays import NpzSpec
from tapeout.scenarios.data.huggingface import HuggingFaceSpec
from tapeout.scenarios.data.images import ImagesSpec
from tapeout.scenarios.data.linear import QuadraticSpec
from tapeout.scenarios.data.synthetic import (
    GaussiansSpec,
    MoonsSpec,
    SpiralsSpec,
    TeacherSpec,
    curve_error,
)
from tapeout.scenarios.data.table import TableSpec
from tapeout.scenarios.data.text import TextSpec
from tapeout.scenarios.models import QuadraticModel, build_model

pytestmark = pytest.mark.usefixtures("one_thread")


def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as refused:
        load()
    assert "\n" not in str(refused.value)
    return str(refused.value)


SHAPES = {"iris": (4, 3), "wine": (13, 3), "breast_cancer": (30, 2), "diabetes": (10, 1)}


@pytest.mark.parametrize("name", SHAPES)
def test_tables_are_standardised_by_their_training_part(name: str) -> None:
    examples = load_data(TableSpec.model_validate({"name": name}))
    assert (examples.shape[0], examples.classes) == SHAPES[name]
    train = examples.train_inputs.double()
    assert train.mean(dim=0).abs().max() < 1e-6
    assert (train.std(dim=0, correction=0) - 1).abs().max() < 1e-6
    assert abs(len(examples.test_inputs) / (len(train) + len(examples.test_inputs)) - 0.2) < 0.02


@pytest.mark.parametrize("condition", [1.0, 1e6])
def test_quadratic_has_its_curvature_its_minimum_and_its_path(condition: float) -> None:
    spec = QuadraticSpec(dimension=8, condition=condition)
    examples = load_data(spec)
    x, y = examples.train_inputs.double(), examples.train_targets.double()
    values, vectors = np.linalg.eigh((x.T @ x / 8).numpy())
    assert values == pytest.approx(np.geomspace(1 / condition, 1.0, 8), rel=2e-3)
    answer = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    assert np.sum(answer**2) == pytest.approx(8, rel=5e-3)
    if condition > 1:  # a sphere has no axes of its own
        assert np.abs(vectors.T @ answer) == pytest.approx(np.ones((8, 1)), rel=5e-3)
    # Gradient descent from zero in float64: the loss is the sum of what is left along each axis.
    model = build_model(QuadraticModel(inputs=8), 0).double()
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.3), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    eigenvalues = np.geomspace(1.0, 1 / condition, 8)
    steps = np.arange(20)[:, None]
    assert losses == pytest.approx(
        (eigenvalues * (1 - 0.6 * eigenvalues) ** (2 * steps)).sum(1), 1e-4
    )


def test_a_quadratic_takes_its_own_data_alone() -> None:
    spec = QuadraticModel(inputs=4)
    assert "inputs = 4 do not fit the quadratic: set 32" in spec.refusal(load_data(QuadraticSpec()))
    assert "fits one number" in spec.refusal(load_data(MoonsSpec()))


def knn_error(examples: Examples, neighbours: int) -> float:
    """Test error of the majority among the nearest training examples."""
    distance = torch.cdist(examples.test_inputs, examples.train_inputs)
    near = examples.train_targets[distance.topk(neighbours, largest=False).indices]
    return float((near.mode(dim=1).values != examples.test_targets).double().mean())


@pytest.mark.parametrize(
    "spec",
    [MoonsSpec(noise=0.3, examples=8192), SpiralsSpec(noise=0.12, arms=3, examples=8192),
     GaussiansSpec(distance=2.0, examples=8192)],
    ids=lambda spec: spec.kind,
)  # fmt: skip
def test_bayes_errors_are_what_a_good_classifier_reaches(spec: Any) -> None:
    # 2048 test examples: a standard error of 0.008 at an error of 0.15; nearest neighbours come
    # close to the Bayes error, and never below it but by chance.
    error = knn_error(load_data(spec), 61)
    assert 0.03 < spec.bayes_error < 0.3
    assert spec.bayes_error - 0.02 < error < spec.bayes_error + 0.03


def test_bayes_errors_known_in_closed_form() -> None:
    assert GaussiansSpec(distance=2.0).bayes_error == pytest.approx(0.158655, abs=1e-6)
    points = [lambda t: np.stack([0 * t, 0 * t], 1), lambda t: np.stack([0 * t + 2.0, 0 * t], 1)]
    assert curve_error(points, 1.0) == pytest.approx(0.158655, abs=5e-4)
    assert MoonsSpec(noise=0.0).bayes_error == 0.0
    clean, noisy = (load_data(TeacherSpec(label_noise=p, examples=4096)) for p in (0.0, 0.25))
    changed = (clean.train_targets != noisy.train_targets).double().mean()
    assert torch.equal(clean.train_inputs, noisy.train_inputs)
    assert changed == pytest.approx(0.25, abs=0.03)
    assert min(torch.bincount(clean.train_targets)) > 4096 / 16
    assert "leaves nothing to learn" in refusal(lambda: _checked(TeacherSpec, {"label_noise": 0.8}))


def _checked(model: Any, table: dict[str, Any], folder: Path = Path()) -> Any:
    from tapeout.simulator.tables import checked

    return checked(model, table, "data", {"folder": folder})


def test_byte_pairs_are_learned_from_the_training_part(tmp_path: Path) -> None:
    text = "the cat sat on the mat and the cat ate the rat. " * 40
    (tmp_path / "b.txt").write_text(text + "é", encoding="utf-8")
    spec = _checked(
        TextSpec, {"path": "b.txt", "tokens": "bpe", "vocabulary": 270, "length": 8}, tmp_path
    )
    examples = load_data(spec)
    assert examples.classes == 270 and int(examples.train_inputs.max()) >= 256
    plain = load_data(spec.model_copy(update={"tokens": "bytes"}))
    assert plain.classes == 256
    assert plain.train_inputs.numel() > 2 * examples.train_inputs.numel()
    assert bytes(plain.train_inputs[0].tolist()).decode() == text[:8]
    again = _checked(
        TextSpec, {"path": "b.txt", "tokens": "bpe", "vocabulary": 270, "length": 8}, tmp_path
    )
    load_data.__globals__["_load"].cache_clear()
    assert torch.equal(load_data(again).train_inputs, examples.train_inputs)
    assert "has pairs for" in refusal(
        lambda: load_data(spec.model_copy(update={"vocabulary": 5000}))
    )


def test_a_folder_of_texts_is_joined_in_order(tmp_path: Path) -> None:
    (tmp_path / "2.txt").write_text("world " * 30)
    (tmp_path / "1.txt").write_text("hello " * 30)
    spec = _checked(TextSpec, {"path": ".", "tokens": "bytes", "length": 5}, tmp_path)
    assert bytes(load_data(spec).train_inputs[0].tolist()) == b"hello"
    (tmp_path / "empty").mkdir()
    assert "holds no .txt file" in refusal(
        lambda: load_data(_checked(TextSpec, {"path": "empty"}, tmp_path))
    )


def npz(folder: Path, **arrays: Any) -> Callable[..., NpzSpec]:
    np.savez(folder / "a.npz", **arrays)
    return lambda **keys: _checked(NpzSpec, {"path": "a.npz", **keys}, folder)


def test_npz_is_split_scaled_and_hashed(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, names = draw.normal(5, 3, (40, 6)), np.array(["cat", "dog"] * 20)
    make = npz(tmp_path, inputs=x, targets=names)
    examples = load_data(make(scale="standard"))
    assert (len(examples.train_inputs), len(examples.test_inputs)) == (32, 8)
    assert examples.classes == 2 and set(examples.train_targets.tolist()) == {0, 1}
    assert examples.train_inputs.dtype == torch.float32
    assert examples.train_inputs.mean().abs() < 1e-6
    before = data_inputs(make())["sha256"]
    x[3, 3] += 1
    assert data_inputs(npz(tmp_path, inputs=x, targets=names)())["sha256"] != before
    make = npz(tmp_path, a=x, b=x[:, :2], c=x[:4], d=x[:4, :2])
    both = load_data(make(inputs="a", targets="b", test_inputs="c", test_targets="d",
                          objective="regression"))  # fmt: skip
    assert both.classes == 2 and len(both.test_inputs) == 4
    tokens = np.arange(80).reshape(10, 8) % 7
    make = npz(tmp_path, inputs=tokens, targets=(tokens + 1) % 7)
    text = load_data(make(tokens=True))
    assert text.classes == 7 and text.train_inputs.dtype == torch.int64


ONES = np.ones((20, 3))
HALVES = np.arange(20) % 2
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "NaN": ({"inputs": np.where(np.arange(60).reshape(20, 3) == 31, np.nan, 1.0)}, {},
            "a.npz, training inputs: 1 of"),
    "infinite": ({"inputs": ONES * 1e300}, {}, "values are NaN or infinite, the first in"),
    "lengths": ({"targets": HALVES[:19]}, {}, "20 inputs and 19 targets: one target for each"),
    "missing label": ({"targets": np.where(HALVES == 0, np.nan, 1.0)}, {},
                      "10 of 20 labels are missing, the first in example 0"),
    "negative label": ({"targets": HALVES - 1}, {}, "labels are missing"),
    "empty name": ({"targets": np.array(["a", ""] * 10)}, {}, "labels are missing, the first in "
                   "example 1"),
    "no class": ({"targets": HALVES + 0.5}, {}, 'a regression needs objective = "regression"'),
    "one class": ({"targets": HALVES * 0}, {}, "1 class is nothing to tell apart"),
    "rare class": ({"targets": np.eye(20)[0].astype(int)}, {}, "class 1 has 1 examples, too few"),
    "scalar": ({"inputs": np.ones(20)}, {}, "inputs: shape (20,) is not (examples, ...)"),
    "no array": ({}, {"targets": "target"}, 'has no array "target" (did you mean "targets"?)'),
    "objects": ({"inputs": np.array([{}] * 20)}, {}, "cannot be read as .npz: Object arrays"),
    "text": ({"inputs": np.array([["a"]] * 20)}, {}, "are no numbers"),
    "tokens": ({"inputs": ONES}, {"tokens": True}, "tokens are whole numbers from 0 on"),
    "half a test": ({}, {"test_inputs": "inputs"}, "test_inputs and test_targets go together"),
    "words": ({"targets": np.array(["a", "b"] * 10)}, {"objective": "regression"}, "are numbers"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_npz_faults_are_one_sentence_with_the_file(tmp_path: Path, fault: str) -> None:
    arrays, keys, told = FAULTS[fault]
    make = npz(tmp_path, **{"inputs": ONES, "targets": HALVES, **arrays})
    sentence = refusal(lambda: load_data(make(**keys)))
    assert "a.npz" in sentence and told in sentence


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.npz", b"PK\3\4broken"), ("b.npz", b"text"), ("c.npz", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        spec = _checked(NpzSpec, {"path": name}, tmp_path)
        assert f"{name}: cannot be read as .npz" in refusal(partial(load_data, spec))


def picture(path: Path, value: int, size: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size, size, 3), value, np.uint8)
    pixels[:2] = value // 2
    Image.fromarray(pixels).save(path)


def test_folders_of_images_are_classes(tmp_path: Path) -> None:
    for n in range(5):
        picture(tmp_path / "night" / f"{n}.png", 10 + n)
        picture(tmp_path / "day" / f"{n}.png", 200 + n, size=12)
    spec = _checked(ImagesSpec, {"path": ".", "size": 6, "channels": 1}, tmp_path)
    examples = load_data(spec)
    assert examples.shape == (1, 6, 6) and examples.classes == 2
    bright = examples.train_inputs.mean(dim=(1, 2, 3)) > 0
    assert torch.equal(bright, examples.train_targets == 0)  # "day" comes first
    assert len(examples.test_inputs) == 2
    before = data_inputs(spec)["sha256"]
    picture(tmp_path / "night" / "3.png", 40)
    assert data_inputs(spec)["sha256"] != before


def test_images_already_split_and_their_faults(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name, value in (("a", 9), ("b", 99)):
            picture(tmp_path / part / name / "1.png", value)
    spec = _checked(ImagesSpec, {"path": ".", "size": 6}, tmp_path)
    assert load_data(spec).shape == (3, 6, 6)
    (tmp_path / "test" / "b" / "1.png").rename(tmp_path / "test" / "a" / "2.png")
    assert f"{tmp_path}/test/b: holds no image" in refusal(lambda: load_data(spec))
    (tmp_path / "test" / "b").rmdir()
    assert "test: has no images of the class b" in refusal(lambda: load_data(spec))
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"\x89PNG broken")
    picture(tmp_path / "test" / "b" / "1.png", 9)
    told = refusal(lambda: load_data(spec))
    assert f"{tmp_path}/train/a/1.png: cannot be read as an image" in told
    absent = _checked(ImagesSpec, {"path": "absent"}, tmp_path)
    assert "absent: cannot be read: No such file" in refusal(lambda: load_data(absent))


def test_huggingface_reads_folders_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = {"a": np.arange(20.0), "b": [[n, -n] for n in range(20)], "y": ["no", "yes"] * 10}
    pictures = [Image.new("RGB", (4, 4), (n, n, n)) for n in range(20)]
    whole = datasets.Dataset.from_dict({**table, "words": ["good morning"] * 20})
    whole.save_to_disk(str(tmp_path / "disk"))
    datasets.DatasetDict({"train": whole, "extra": whole}).save_to_disk(str(tmp_path / "dict"))
    datasets.Dataset.from_dict(
        {"image": pictures, "y": table["y"]},
        features=datasets.Features({"image": datasets.Image(), "y": datasets.Value("string")}),
    ).save_to_disk(str(tmp_path / "pictures"))
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(20)))

    def spec(path: str, **keys: Any) -> HuggingFaceSpec:
        usual = {} if "text" in keys else {"inputs": ["a", "b"], "target": "y"}
        made: HuggingFaceSpec = _checked(HuggingFaceSpec, usual | {"path": path, **keys}, tmp_path)
        return made

    def load(keys: dict[str, Any]) -> Examples:
        return load_data(spec("disk", **keys))

    found = load_data(spec("disk"))
    assert found.shape == (3,) and found.classes == 2 and len(found.train_inputs) == 16
    split = load_data(spec("dict", test="extra"))
    assert len(split.train_inputs) == len(split.test_inputs) == 20
    images = load_data(spec("pictures", inputs=["image"], size=4, channels=1))
    assert images.shape == (1, 4, 4)
    assert load_data(spec("t.csv", inputs=["a"])).shape == (1,)
    windows = load_data(spec("disk", text="words", tokens="bytes", length=4))
    assert bytes(windows.train_inputs[0].tolist()) == b"good"
    for keys, told in (
        ({"inputs": ["aa"]}, 'dataset disk: column = "aa" is not one of a, b, y, words'),
        ({"inputs": ["words"]}, "words: is no column of numbers"),
        ({"target": None}, "give inputs = [columns] and target = a column, or text = a column"),
        ({"text": "a", "inputs": []}, "a: is no column of texts"),
    ):
        assert told in refusal(partial(load, keys))
    assert 'part = "test" is not one of train, extra' in refusal(
        lambda: load_data(spec("dict", test="test"))
    )
    assert "t2.csv: no such file" in refusal(lambda: load_data(spec("t2.csv")))
