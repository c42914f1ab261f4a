"""Mining that survives interruptions and can be shared by processes and machines.

================  =================================================================================================
`work`            the folder beside a library that holds finished work and describes what is mined
`stages`          the pass over the data set and the patches: shared by processes, resumed where they stopped
`checkpoints`     the tally of some blocks as a file, and which files to use
`spans`           sets of blocks
`processes`       the processes of one run, and barriers between them
`extending`       whether a library can be extended to a longer data set
`merging`         `merge`: the library from what shards have computed
================  =================================================================================================
"""
