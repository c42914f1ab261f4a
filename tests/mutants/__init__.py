"""Libraries changed as by an attacker, a failing disk or an accident, and what happens when they are read.

=============  ====================================================================================================
`subject`      the small library that is changed, with its model and data
`kinds`        one function for each kind of change, by a seeded random number
`worker`       a process with a memory limit: makes changed libraries, uses each in every way, and reports a line each
`running`      starts workers, notices those that hang or die, and sums up
=============  ====================================================================================================

The evidence in docs/evidence/mutated-libraries.md is written by

    python -m tests.mutants --count 1000 --write docs/evidence/mutated-libraries.md
"""
