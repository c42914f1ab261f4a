"""The group of commands, and how a user's mistake ends: one sentence on stderr, exit code 2, no traceback."""

from __future__ import annotations

import logging
import os
from typing import IO, Any

import click

from crp.cli.atlas_command import atlas
from crp.cli.classes_command import classes
from crp.cli.demo_command import demo
from crp.cli.info_command import info
from crp.cli.merge_command import merge
from crp.cli.mine_command import mine
from crp.cli.search_command import search
from crp.cli.strategies_command import strategies
from crp.cli.verify_command import verify
from crp.compat import refuse_zennit_crp
from crp.errors import CrpError, inert

INTERRUPTED = 130  # 128 + SIGINT, what a shell expects


class Refused(click.ClickException):
    """A user's mistake, told in one sentence."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ctrl-C."""

    exit_code = INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        """Say so in one line."""
        click.echo(f"\n{self.message}", err=True)


class Commands(click.Group):
    """A group whose commands may raise this package's errors."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what a user can cause into a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except CrpError as error:
            raise Refused(inert(" ".join([str(error), *getattr(error, "__notes__", ())]))) from error
        except OSError as error:
            # A full disk, a folder without permission: the system's words and the file say enough.
            if error.filename is None:
                raise
            raise Refused(f"'{error.filename}': {error.strerror}.") from error
        except KeyboardInterrupt as error:
            # what can go on from where it was says so
            kept = getattr(error, "__notes__", ["Nothing half-written is left."])
            raise Interrupted(" ".join(["Interrupted.", *kept])) from None


class Echo(logging.Handler):
    """Shows the library's log on stderr, so that stdout holds results alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        click.echo(record.getMessage(), err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="crp-atlas", prog_name="crp-atlas")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Which concepts did a model use for a prediction, where, and what is each of them?

    Mine once which samples of a data set show each concept (channel) of a model; then explain any picture with them:

    \b
        crp demo                                              a complete example, in a minute
        crp mine torchvision:resnet18 photos/ --weights DEFAULT --layers layer4 --out resnet18.crp
        crp atlas resnet18.crp zebra.jpg --out zebra.html     which concepts made it a zebra

    \b
    A model is    torchvision:NAME, package.module:function or file.py:function
    Data is       a folder of pictures, an .npz, or a function that returns a map-style data set
    A library is  the folder that mining leaves (`crp info` says what it holds)

    `crp COMMAND --help` tells more, with an example.
    """
    # Before torch is loaded: threads that wait shall sleep. Spinning ones slow a busy machine down several times.
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


for command in (demo, mine, merge, atlas, info, verify, classes, search, strategies):
    main.add_command(command)
