"""The command line `crp`: one command per file, without logic of its own.

============  ====================================================================
`main`        the entry point: the group of commands, and how errors are shown
`options`     types of option values, and options that several commands share
`demo`        mines the built-in data set and explains one of its predictions
`layers`      lists the layers of a model
`mine`        mines a model and its data set into a library
`merge`       joins the shards of a mining run into a library
`atlas`       explains pictures with a library
`info`        describes a library
`verify`      checks that a library is complete, unchanged and correct
`evaluate`    measures whether what counts in explanations is what the model uses
`classes`     ranks the concepts of a class, or the classes of a concept
`search`      finds the samples that use a concept
`strategies`  clusters samples by strategy, the likeliest Clever Hans first
============  ====================================================================

Nothing here imports torch before a command runs, so that help is shown at once.
"""

from crp.cli.group import main

__all__ = ["main"]
