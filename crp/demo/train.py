"""Train the demo network and write its weights: `python -m crp.demo.train` (about five minutes on two CPU cores).

The same machine, torch version and number of threads give the same weights to the bit; others give a network that behaves
the same.
"""
