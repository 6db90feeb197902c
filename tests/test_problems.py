"""The models and the data that a scenario can name, beside the digits and the transformer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tapeout.formats.errors import InputError
from tapeout.scenarios.data import AnyDataSpec, data_inputs, load_data
from tapeout.scenarios.data.digits import DigitsSpec
from tapeout.scenarios.data.linear import LinearSpec
from tapeout.scenarios.data.text import TextSpec
from tapeout.scenarios.measures import quality
from tapeout.scenarios.models import (
    AnyModelSpec,
    GptSpec,
    MlpSpec,
    ResnetSpec,
    VitSpec,
    build_model,
)
from tapeout.scenarios.training import loss_of

TEXT = TextSpec(length=16, characters=4000)
PAIRS: list[tuple[AnyModelSpec, AnyDataSpec]] = [
    (VitSpec(width=16, heads=2, depth=1, patch=4), DigitsSpec()),
    (ResnetSpec(widths=(4, 8)), DigitsSpec()),
    (MlpSpec(widths=(16,)), DigitsSpec()),
    (MlpSpec(inputs=8, widths=(), classes=1), LinearSpec(features=8, examples=64)),
    (GptSpec(length=16, width=16, heads=2, depth=1), TEXT),
]


@pytest.mark.parametrize(("model", "data"), PAIRS, ids=lambda spec: spec.kind)
def test_each_model_learns_its_data(model: AnyModelSpec, data: AnyDataSpec) -> None:
    examples, net = load_data(data), build_model(model, 0)
    assert model.refusal(examples) == ""
    same = build_model(model, 0).state_dict()
    assert all(torch.equal(p, same[name]) for name, p in net.state_dict().items())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    inputs, targets = examples.train_inputs[:32], examples.train_targets[:32]
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(examples, net(inputs), targets)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_gpt_sees_no_later_token() -> None:
    net = build_model(GptSpec(length=16, width=16, heads=2), 0)
    tokens = load_data(TEXT).train_inputs[:2].clone()
    before = net(tokens)
    tokens[:, 9] = 3
    after = net(tokens)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


def test_windows_of_a_text_predict_the_next_character(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abcdefghij" * 4, encoding="utf-8")
    spec = TextSpec(path=str(path), length=4, test_fraction=0.25)
    examples = load_data(spec)
    assert examples.classes == 10
    assert examples.train_inputs.tolist()[0] == [0, 1, 2, 3]
    assert examples.train_targets.tolist()[0] == [1, 2, 3, 4]
    assert (len(examples.train_inputs), len(examples.test_inputs)) == (7, 2)  # 29 and 9 pairs
    digest = data_inputs(spec)["sha256"]
    path.write_text("abcdefghij" * 4 + "k", encoding="utf-8")
    assert data_inputs(spec)["sha256"] != digest
    with pytest.raises(InputError, match="leave no window of length = 30"):
        load_data(TextSpec(path=str(path), length=30))
    with pytest.raises(InputError, match=r"b\.txt: cannot be read as UTF-8 text"):
        load_data(TextSpec(path=str(tmp_path / "b.txt")))


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_least_squares_have_their_condition_and_a_known_answer(condition: float) -> None:
    examples = load_data(LinearSpec(features=8, examples=64, condition=condition))
    x, y = examples.train_inputs.double().numpy(), examples.train_targets.double().numpy()
    values = np.linalg.eigvalsh(x.T @ x / len(x))
    assert values[-1] / values[0] == pytest.approx(condition, rel=1e-3)
    answer = np.linalg.lstsq(x, y, rcond=None)[0]
    assert (
        np.abs(examples.test_inputs.numpy() @ answer - examples.test_targets.numpy()).max() < 1e-3
    )


def test_models_refuse_data_that_does_not_fit() -> None:
    digits, text, linear = (load_data(d) for d in (DigitsSpec(), TEXT, LinearSpec(features=8)))
    assert "classifies images, not the Python reference" in ResnetSpec().refusal(text)
    assert "channels = 3 do not fit: set 1" in ResnetSpec(channels=3).refusal(digits)
    assert "predicts the tokens of a text" in GptSpec().refusal(digits)
    assert "length = 8 is below the data's: set 16" in GptSpec(length=8).refusal(text)
    assert "inputs = 64 do not fit the linear targets: set 8" in MlpSpec().refusal(linear)
    assert "classes = 10 do not fit: set 1" in MlpSpec(inputs=8).refusal(linear)
    assert "takes numbers, not the tokens" in MlpSpec().refusal(text)
    assert "classes = 9 are fewer than the digits have: set 10" in MlpSpec(classes=9).refusal(
        digits
    )


def test_quality_of_sequences_and_of_a_regression() -> None:
    scores = torch.zeros(2, 3, 4)
    scores[..., 1] = 5.0
    targets = torch.tensor([[1, 1, 1], [1, 0, 1]])
    loss, accuracy = quality(scores, targets)
    assert accuracy == pytest.approx(5 / 6)
    flat = torch.nn.functional.cross_entropy(scores.flatten(0, 1).double(), targets.flatten())
    assert loss == pytest.approx(flat.item(), rel=1e-12)
    square, none = quality(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
    assert square == 2.5
    assert np.isnan(none)
