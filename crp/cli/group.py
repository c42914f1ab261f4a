"""The group of commands. A mistake of the user becomes one sentence on stderr and exit code 2, without a traceback."""

from __future__ import annotations

import functools
import gc
import logging
import os
from collections.abc import Callable
from typing import IO, Any

import click

from crp.cli.atlas_command import atlas
from crp.cli.classes_command import classes
from crp.cli.context_command import context
from crp.cli.demo_command import demo
from crp.cli.diff_command import diff
from crp.cli.directions_command import directions
from crp.cli.evaluate_command import evaluate
from crp.cli.fix_command import fix
from crp.cli.info_command import info
from crp.cli.layers_command import layers
from crp.cli.masks_command import masks
from crp.cli.merge_command import merge
from crp.cli.mine_command import mine
from crp.cli.names_command import names
from crp.cli.patches_command import patches
from crp.cli.search_command import search
from crp.cli.strategies_command import strategies
from crp.cli.suspects_command import suspects
from crp.cli.verify_command import verify
from crp.compat import refuse_zennit_crp
from crp.errors import CrpError, inert

INTERRUPTED = 130  # 128 + SIGINT, what a shell expects


class Refused(click.ClickException):
    """A mistake of the user, as one sentence."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ctrl-C."""

    exit_code = INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        """Write one line to stderr."""
        click.echo(f"\n{self.message}", err=True)


class Commands(click.Group):
    """A group whose commands may raise the errors of this package."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors that a user can cause into a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except CrpError as error:
            raise Refused(inert(" ".join([str(error), *getattr(error, "__notes__", ())]))) from error
        except OSError as error:
            # a full disk, a folder without permission: the system's message and the file say enough
            if error.filename is None:
                raise
            raise Refused(f"'{error.filename}': {error.strerror}.") from error
        except KeyboardInterrupt as error:
            # commands that can be resumed add a note
            kept = getattr(error, "__notes__", ["No incomplete file is left."])
            raise Interrupted(" ".join(["Interrupted.", *kept])) from None


class Echo(logging.Handler):
    """Writes the log to stderr, so that stdout holds only results."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        click.echo(record.getMessage(), err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="crp-atlas", prog_name="crp-atlas")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Show which concepts a model used for a prediction, where in the picture, and what each concept is.

    First mine a data set once: that finds the samples that show each concept (channel) of a model, and stores them in a
    folder, the library. Then explain any picture with the library:

    \b
        crp demo                                              a complete example in a minute
        crp layers timm:convnext_atto                         which layers does the model have?
        crp mine torchvision:resnet18 photos/ --weights DEFAULT --layers layer4 --out resnet18.crp
        crp atlas resnet18.crp zebra.jpg --out zebra.html     which concepts made it a zebra?
        crp info resnet18.crp                                 what does the library hold?

    \b
    MODEL    torchvision:NAME, timm:NAME, hf:FOLDER, package.module:function or file.py:function
    DATA     a folder of pictures or of Hugging Face's datasets, an .npz file, or a function that returns a data set
    LIBRARY  the folder that `crp mine` writes
    LAYER    a name in model.named_modules(), such as layer4; NAME..input for what a module is given
    CLASS    the index of a class, or its name if the library has names

    `crp COMMAND --help` describes a command, with an example.
    """
    # Before torch is loaded: waiting threads should sleep. Threads that spin make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        refuse_zennit_crp()
    except ImportError as error:
        raise Refused(str(error)) from error
    logger, handler = logging.getLogger("crp"), Echo()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    ctx.call_on_close(lambda: logger.removeHandler(handler))
    ctx.call_on_close(lambda: logger.setLevel(level))


def _with_torch(run: Callable[..., None]) -> Callable[..., None]:
    """Load torch and the rules before a command that computes.

    Garbage collection waits meanwhile: modules make many objects and leave none behind, and looking for garbage among
    them took a sixth of the time.
    """

    @functools.wraps(run)
    def loaded(*arguments: Any, **options: Any) -> None:
        collecting = gc.isenabled()
        gc.disable()
        try:
            import crp.attribution  # noqa: F401
        finally:
            if collecting:
                gc.enable()
        run(*arguments, **options)

    return loaded


for command in (demo, layers, mine, merge, atlas, patches, verify, evaluate, suspects, fix, masks, directions, context):
    command.callback = _with_torch(command.callback)
    main.add_command(command)
for command in (info, diff, classes, names, search, strategies):
    main.add_command(command)
