"""How fast, how large and how right: this package beside zennit-crp, and beside the plain gradient.

=================  ==================================================================================================
`rows.py`          what is measured: one declaration for each row of the table
`environments.py`  the two virtual environments
`processes.py`     a worker process, and the messages to it
`measuring.py`     runs interleaved, batch sizes chosen, medians
`machine.py`       what was measured on
`report.py`        the table, the page, the raw figures
`worker.py`        runs in either environment: answers messages
`subjects.py`      networks and inputs, made from the same seeds on both sides
`ours.py`          each kind of work with this package, and the plain gradient
`theirs.py`        each kind of work with zennit-crp
=================  ==================================================================================================

The upper half needs nothing but Python: `python -m benchmarks --help`.
"""
