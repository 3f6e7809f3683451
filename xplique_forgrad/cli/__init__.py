"""
The command line: `xplique-forgrad`, or `python -m xplique_forgrad`.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from .. import __version__
from .._notices import ForgradWarning

_COMMANDS = ("demo", "filter", "sigma", "diagnose", "benchmark")


class _Commands(click.Group):
    """Commands whose modules are imported when they are called; without one, the demonstration."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        from . import _commands

        return getattr(_commands, f"{name}_command")

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        own = {"--help", "--version", "-h", "--traceback"}
        if not arguments or (arguments[0].startswith("-") and arguments[0] not in own):
            arguments = ["demo", *arguments]
        return super().parse_args(context, arguments)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Results go to the standard output, all else to the standard error. TensorFlow is kept "
    "quiet; TF_CPP_MIN_LOG_LEVEL=0 shows what it says.",
)
@click.version_option(__version__, prog_name="xplique-forgrad")
@click.option("--traceback", is_flag=True, help="Show where in the code an error was raised.")
def commands(traceback: bool) -> None:
    """
    Low-pass filter attribution maps of a Keras model, find the cutoff, and see where noise comes
    from. Without a command, a demonstration on bundled data.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    arguments
        What stands behind the program's name; None for those of this process.

    Returns
    -------
    code :
        0 if it succeeded, 1 if it could not be done, 2 for wrong options, 130 if interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # its advice on tracing is for who writes the calls
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    told: set[str] = set()

    def show(message: Any, category: type, *_: Any, **__: Any) -> None:
        # those of others help nobody here
        if issubclass(category, ForgradWarning) and str(message) not in told:
            told.add(str(message))
            click.echo(f"Warning: {_in_options(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            commands.main(given, prog_name="xplique-forgrad", standalone_mode=False)
        except click.exceptions.Abort:
            click.echo(
                "\nInterrupted. A search or a benchmark goes on when the same command is typed.",
                err=True,
            )
            return 130
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except Exception as error:
            told_error = _told(error)
            if "--traceback" in given[:1] or told_error is None:
                raise
            click.echo(f"Error: {_in_options(told_error)}", err=True)
            return 1
    return 0


def _told(error: Exception) -> str | None:
    """What an error says to a user; None for one that is a defect of ours."""
    text = str(error)
    if isinstance(error, (ValueError, TypeError, ImportError, OSError)):
        # of a function that TensorFlow traced, the last line says it
        return text.strip().splitlines()[-1].strip() if "in user code:" in text else text
    # what was raised while a dataset was read comes inside a longer text of TensorFlow's
    found = re.search(r"^(?:Value|Type|OS)Error: (.+)", text, re.MULTILINE)
    is_theirs = type(error).__module__.startswith("tensorflow")
    return found.group(1) if is_theirs and found else None


# arguments of functions, and what one types here in their place
_OPTIONS = {
    'unreadable="skip"': "--skip-unreadable",
    "targets=None": "--targets predicted",
    "'auto', 'folders', None, or": "auto, folders, predicted, or",
    "`targets`": "--targets",
    "`baseline_mode` gives": "--baseline is",
    "`nb_choosing`": "--choosing",
    "`nb_stability`": "--stability",
    "Give another folder": "Give another --output",
    "give 255 * inputs": "give --preprocessing none",
    "give inputs / 255": "give --preprocessing unit",
}


def _in_options(message: str) -> str:
    """The message, with what one types here in place of arguments."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message
