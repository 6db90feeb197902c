"""Pieces of programs as people write them: each trains, or runs, on a batch of its own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from .models import PROGRAMS

#: A model, and what is done with it; returns a number.
Piece = tuple[nn.Module, Callable[[], float]]
PIECES: dict[str, Callable[[], Piece]] = {}


def piece(build: Callable[[], Piece]) -> Callable[[], Piece]:
    """Register a piece by its name."""
    PIECES[build.__name__] = build
    return build


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: Callable[[Any], torch.optim.Optimizer] = torch.optim.AdamW,
    clip: bool = False,
) -> Piece:
    """Three steps; returns the last loss."""
    made = optimizer(model.parameters())

    def run() -> float:
        last = 0.0

        def closure() -> float:
            nonlocal last
            made.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            last = value.item()
            return last

        for _ in range(3):
            made.step(closure)
        return last

    return model, run


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 3))


def classify(model: nn.Module) -> Callable[[], Tensor]:
    x, y = random(6, 6), torch.arange(6) % 3
    return lambda: F.cross_entropy(model(x), y)


@piece
def transformer() -> Piece:
    model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True, dropout=0.0)
    a, b = random(2, 5, 16), random(2, 6, 16)
    return trained(model, lambda: model(a, b).square().mean())


@piece
def transformer_in_evaluation() -> Piece:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    x = random(2, 5, 16)

    def run() -> float:
        with torch.no_grad():
            return float(model(x).square().mean())

    return model, run


@piece
def multihead_attention() -> Piece:
    model = nn.MultiheadAttention(16, 2, batch_first=True)
    x = random(2, 5, 16)
    return trained(model, lambda: model(x, x, x)[0].square().mean())


@piece
def lstm() -> Piece:
    model = nn.LSTM(6, 8, num_layers=2, batch_first=True)
    x = random(3, 5, 6)
    return trained(model, lambda: model(x)[0].square().mean())


@piece
def lstm_of_packed_sequences() -> Piece:
    model, x = nn.LSTM(6, 8, batch_first=True), random(3, 5, 6)

    def loss() -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]), batch_first=True)
        padded, _ = nn.utils.rnn.pad_packed_sequence(model(packed)[0], batch_first=True)
        return padded.square().mean()

    return trained(model, loss)


@piece
def gru() -> Piece:
    model = nn.GRU(6, 8, batch_first=True, bidirectional=True)
    x = random(3, 5, 6)
    return trained(model, lambda: model(x)[0].square().mean())


@piece
def mobilenet() -> Piece:
    """A depthwise separable block."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    x, y = random(4, 3, 12, 12), torch.arange(4)
    return trained(model, lambda: F.cross_entropy(model(x), y, label_smoothing=0.1))


class UNet(nn.Module):
    """Down and up once, with the skip between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.GELU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        up = self.up(self.down(high))
        return self.head(torch.cat([high, up], 1))  # type: ignore[no-any-return]


@piece
def unet() -> Piece:
    model, x = UNet(), random(2, 1, 8, 8)
    return trained(model, lambda: F.mse_loss(model(x), x))


@piece
def decoder_of_upsampled_images() -> Piece:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        nn.InstanceNorm2d(4, affine=True),
        nn.LeakyReLU(),
        nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Upsample(scale_factor=2),
        nn.PixelShuffle(2),
    )
    x, y = random(2, 1, 8, 8), random(2, 1, 32, 32, seed=1)
    return trained(model, lambda: F.smooth_l1_loss(model(x), y))


@piece
def one_and_three_dimensions() -> Piece:
    model = nn.ModuleDict(
        {
            "a": nn.Conv1d(2, 4, 3, dilation=2),
            "b": nn.Conv3d(1, 2, 2),
            "c": nn.ConvTranspose1d(4, 2, 3, stride=2, output_padding=1),
        }
    )
    x, y = random(2, 2, 9), random(2, 1, 4, 4, 4)
    return trained(
        model, lambda: model["c"](model["a"](x)).square().mean() + model["b"](y).abs().mean()
    )


@piece
def adversaries() -> Piece:
    """Two networks, two optimizers."""
    maker = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh())
    judge = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    made = torch.optim.Adam(maker.parameters(), 2e-3, betas=(0.5, 0.999))
    judged = torch.optim.Adam(judge.parameters(), 2e-3)
    real, noise = random(6, 6), random(6, 4)

    def score(x: Tensor, truth: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(judge(x), torch.full((6, 1), truth))

    def run() -> float:
        last = 0.0
        for _ in range(2):
            judged.zero_grad()
            loss = score(real, 1.0) + score(maker(noise).detach(), 0.0)
            loss.backward()  # type: ignore[no-untyped-call]
            judged.step()
            made.zero_grad()
            loss = score(maker(noise), 1.0)
            loss.backward()  # type: ignore[no-untyped-call]
            made.step()
            last = loss.item()
        return last

    return nn.ModuleDict({"maker": maker, "judge": judge}), run


@piece
def gpt2_with_checkpointing() -> Piece:
    program = PROGRAMS["gpt2"]
    model: Any = program.build()
    model.gradient_checkpointing_enable()
    model.train()
    return trained(model, lambda: program.loss(model))


@piece
def gpt2_with_autocast() -> Piece:
    program = PROGRAMS["gpt2"]
    model = program.build()

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return program.loss(model)

    return trained(model, loss)


@piece
def gpt2_in_bfloat16() -> Piece:
    program = PROGRAMS["gpt2"]
    model = program.build().bfloat16()
    return trained(model, lambda: program.loss(model))


@piece
def resnet_with_autocast() -> Piece:
    program = PROGRAMS["resnet"]
    model = program.build()

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return program.loss(model)

    return trained(model, loss)


@piece
def gpt2_generates() -> Piece:
    model: Any = PROGRAMS["gpt2"].build().eval()

    def run() -> float:
        tokens = model.generate(
            torch.arange(4)[None], attention_mask=torch.ones(1, 4), max_new_tokens=3,
            do_sample=False, use_cache=True,
        )  # fmt: skip
        return float(tokens.sum())

    return model, run


@piece
def llama() -> Piece:
    """Rotary positions, RMS norm, shared key-value heads."""
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    model, tokens = LlamaForCausalLM(config), torch.arange(16).reshape(2, 8)
    return trained(model, lambda: model(input_ids=tokens, labels=tokens).loss)


@piece
def bert() -> Piece:
    config = BertConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model, tokens = BertForSequenceClassification(config), torch.arange(16).reshape(2, 8)
    labels = torch.tensor([0, 1])
    return trained(model, lambda: model(input_ids=tokens, labels=labels).loss)


@piece
def checkpointed_both_ways() -> Piece:
    model, x = perceptron(), random(5, 6).requires_grad_()

    def loss() -> Tensor:
        old = checkpoint(model, x, use_reentrant=True)
        new = checkpoint(model, x, use_reentrant=False)
        return old.square().mean() + new.square().mean()  # type: ignore[no-any-return]

    return trained(model, loss)


@piece
def moving_average_of_weights() -> Piece:
    model = perceptron()
    average = torch.optim.swa_utils.AveragedModel(
        model,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9),  # type: ignore[no-untyped-call]
    )
    _, run = trained(model, classify(model))

    def averaged() -> float:
        run()
        average.update_parameters(model)
        return float(classify(average)())

    return model, averaged


@piece
def functional_gradients() -> Piece:
    """torch.func: grad, and gradients sample by sample."""
    model, x = perceptron(), random(5, 6)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(model, parameters, (x,))
        return y.square().mean()

    def run() -> float:
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        together = torch.func.grad(loss)(parameters, x)
        single = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
        mean = single["0.weight"].mean(0)
        assert torch.allclose(mean, together["0.weight"], rtol=0.1, atol=0.02)
        return float(together["0.weight"].square().sum())

    return model, run


@piece
def compiled() -> Piece:
    """torch.compile: runs eagerly inside of an emulation, compiled before or not."""
    model = perceptron()
    fast: Any = torch.compile(model, backend="eager")
    return trained(model, classify(fast))


@piece
def torchscript() -> Piece:
    model: Any = torch.jit.script(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)))
    return trained(model, classify(model))


@piece
def loss_scaled_by_hand() -> Piece:
    """torch.amp.GradScaler with float16 autocast."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def run() -> float:
        last = 0.0
        for _ in range(2):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = classify(model)()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            last = loss.item()
        return last

    return model, run


LIBRARY: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw fused": lambda p: torch.optim.AdamW(p, fused=True),
    "adamw foreach amsgrad": lambda p: torch.optim.AdamW(p, foreach=True, amsgrad=True),
    "sgd fused nesterov": lambda p: torch.optim.SGD(
        p, 0.1, momentum=0.9, nesterov=True, fused=True
    ),
    "adagrad fused": lambda p: torch.optim.Adagrad(p, fused=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
    "adafactor": torch.optim.Adafactor,
    "adamax foreach": lambda p: torch.optim.Adamax(p, foreach=True),
    "rprop": torch.optim.Rprop,
    "nadam": torch.optim.NAdam,
    "asgd": torch.optim.ASGD,
    "rmsprop centred": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9),
}


def _optimizer(make: Callable[[Any], torch.optim.Optimizer]) -> Callable[[], Piece]:
    def build() -> Piece:
        model = perceptron()
        return trained(model, classify(model), make, clip=True)

    return build


PIECES |= {name: _optimizer(make) for name, make in LIBRARY.items()}
