"""Speed, memory and exactness: this package compared with zennit-crp and with the plain gradient.

=================  ==================================================================================================
`rows.py`          what is measured: one declaration for each row of the table
`environments.py`  the two virtual environments
`processes.py`     a worker process, and messages to it
`measuring.py`     interleaved runs, the choice of batch sizes, medians
`machine.py`       the machine and the time of a measurement
`report.py`        the tables, the page, the raw figures
`worker.py`        runs in either environment and answers messages
`subjects.py`      networks and inputs, made from the same seeds on both sides
`ours.py`          each kind of work with this package, and the plain gradient
`theirs.py`        each kind of work with zennit-crp
`volume_memory.py` memory of the page of a volume, a command of its own
`large_pages.py`   pages of a large picture and of a deep network, a command of its own
=================  ==================================================================================================

The modules above `worker.py` need nothing but Python. Usage: `python -m benchmarks --help`.
"""
