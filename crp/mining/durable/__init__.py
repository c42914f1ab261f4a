"""Mining that survives interruption and is shared by processes.

work.py         the folder beside a library that holds what was done so far, and says of what
stages.py       the pass over the data set and the patches, shared by processes, each resumed where it ended
checkpoints.py  the tally of some blocks as a file; which of them to use
segments.py     finished patches as files
spans.py        sets of blocks
locks.py        one process at a time
processes.py    the processes of one run, and waiting for one another
extending.py    whether a library may be the beginning of a longer data set's
merging.py      `merge`: the library from what shards have done
"""
