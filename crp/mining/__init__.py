"""From a data set to a library: which samples show each concept of a model.

=================  =======================================================================================
`mine`             one pass over the data set, then the patches; leaves a library on disk
`add_patches`      patches of more concepts, added to an existing library
`blocks`           the data set as absolute blocks, and what is refused of a data set
`targets`          what is explained for each sample: one class, several, or what a `Question` starts
`scores`           what a sample counts for a concept
`topk`             the k best samples of every concept, while samples stream by
`statistics`       what each class makes of each concept, while samples stream by
`exact`            sums that depend neither on order nor on grouping
`tally`            all that is kept of the samples seen so far: stored, taken up again, merged
`patches`          crops of reference samples around the position where the concept scored
`surroundings`     thread count and random state, set and given back
=================  =======================================================================================
"""

from .pipeline import add_patches, mine
from .targets import Question

__all__ = ["Question", "add_patches", "mine"]
