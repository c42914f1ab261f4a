"""The command `crp`: thin, one command a file.

`main`    the entry point: the group of commands, and what a user's mistake looks like
`demo`    mines the built-in data set and draws the atlas of one of its predictions
`mine`    mines a model and its data set into a library
`atlas`   explains pictures with a library
`info`    says what a library holds, and how to go on with it
`verify`  says whether a library is whole, unchanged and true
========  =========================================================================
=======
============  =====================================================================
`main`        the entry point: the group of commands, and what a user's mistake looks like
`demo`        mines the built-in data set and draws the atlas of one of its predictions
`mine`        mines a model and its data set into a library
`merge`       makes the library of what several runs have mined
`atlas`       explains pictures with a library
`info`        says what a library holds, and how to go on with it
`verify`      says whether a library is whole, unchanged and true
`classes`     the concepts of a class, the classes of a concept
`search`      samples that use a concept
`strategies`  clusters of samples decided alike, likely Clever Hans first
============  =====================================================================

Nothing here imports torch before a command runs, so that help comes at once.
"""

from crp.cli.group import main

__all__ = ["main"]
