"""From a data set to a library: which samples show each concept of a model.

=================  =======================================================================================
`mine`             one pass over the data set, then the patches; leaves a library on disk
`merge`            the library from what shards have done
`add_patches`      patches of more concepts, added to an existing library
`blocks`           the data set as absolute blocks, and what is refused of a data set
`targets`          what is explained for each sample: one class, several, or what a `Question` starts
`scores`           what a sample counts for a concept
`topk`             the k best samples of every concept, while samples stream by
`statistics`       what each class makes of each concept, while samples stream by
`exact`            sums that depend neither on order nor on grouping
`tally`            all that is kept of the samples seen so far: stored, taken up again, merged
`work`             the folder beside a library that holds what was done so far, and says of what
`stages`           the pass over the data set and the patches, shared by processes, each resumed where it ended
`checkpoints`      the tally of some blocks as a file; which of them to use
`segments`         finished patches as files
`spans`            sets of blocks
`extending`        whether a library may be the beginning of a longer data set's
`processes`        the processes of one run, and waiting for one another
`locks`            one process at a time
`patches`          crops of reference samples around the position where the concept scored
`surroundings`     thread count and random state, set and given back
=================  =======================================================================================
"""

from crp.mining.durable.merging import merge

from .pipeline import add_patches, mine
from .targets import Question

__all__ = ["Question", "add_patches", "merge", "mine"]
