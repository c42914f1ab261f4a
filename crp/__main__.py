"""`python -m crp` is the command `crp`."""

from crp.cli import main

main()
