"""Mining that is killed, shared and continued: what is mined, and the scripts that do it to it.

Run from the repository's root: `python -m tests.durability.kills --runs 100`, `python -m tests.durability.sharing`.
"""
