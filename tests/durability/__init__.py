"""Scripts that kill, share and resume mining, and the small net and data set that they mine.

Run from the repository's root: `python -m tests.durability.kills --runs 100`, `python -m tests.durability.sharing`.
"""
