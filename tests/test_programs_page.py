"""The Python of docs/programs.md runs as printed, top to bottom."""

import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parent.parent / "docs" / "programs.md"


def test_python_of_the_page_runs(capsys: Any) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    for block in blocks:
        exec(compile(block, "docs/programs.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "fp8 - e4m3 weights and activations" in printed
    assert "0 dgrad gradient float8_e5m2 160" in printed
    assert 'declare it with @register_op("my_extension::scaled_tanh")' in printed
    assert len(blocks) == 8
