"""The README's Python runs as printed, and its commands exist."""

import re
from pathlib import Path

from click.testing import CliRunner

from tapeout.__main__ import cli

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_python_of_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(code, "README.md", "exec"), {})


def test_commands_of_the_readme_exist() -> None:
    commands = set(re.findall(r"^tapeout (\w+)", README, re.M))
    assert commands == {"run", "report", "chips", "formats"}
    for command in commands:
        result = CliRunner().invoke(cli, [command, "--help"])
        assert result.exit_code == 0 and "Example" in result.output
