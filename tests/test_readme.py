"""The README's Python runs as printed, and its commands exist."""

import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tapeout.__main__ import cli

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_python_of_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["d"].shape == (16, 8) and names["model"][0].weight.grad is not None


def test_commands_of_the_readme_exist() -> None:
    commands = set(re.findall(r"^tapeout (\w+)", README, re.M))
    assert commands == set(cli.commands)
    for command in commands:
        result = CliRunner().invoke(cli, [command, "--help"])
        assert result.exit_code == 0 and "Example" in result.output
