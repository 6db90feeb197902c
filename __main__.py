"""The command line: `tapeout init | run | runs | report | blame | compare | chips | verify | ...`.

Exit codes: 0 done, 1 a finding (a run failed, --check was asked and not passed, or a profile does
not give the outputs it is verified against), 2 bad input, 3 the machine lacks a unit that was to
be verified, 130 interrupted. Every bad input is one line on the error stream.
"""

import os
import sys
from typing import NoReturn

import click

from . import __version__

# These import torch, numba and rich only when they run: --help answers at once.
from .commands.blame import blame
from .commands.chip import chips
from .commands.comparison import compare
from .commands.format import formats
from .commands.probe import probe
from .commands.runs import runs
from .commands.scenario import init, schema
from .commands.study import report, run
from .commands.verification import vectors, verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tapeout")
def cli() -> None:
    """See whether training survives a chip's arithmetic before you commit to the chip."""


for command in (
    init, run, runs, report, blame, compare, schema, chips, formats, verify, vectors, probe,
):  # fmt: skip
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line; no mistake of the user's ends in a traceback."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: the same command continues where this one stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader has closed its end, as `head` does; flushing at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ValueError as error:
        from .formats import InputError

        if not isinstance(error, InputError):
            raise
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
