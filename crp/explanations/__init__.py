"""One prediction explained: the values, and how they are computed.

explanation.py  `Explanation` and its parts as frozen values, and their JSON
computation.py  `explain`: from a model, an input and a library to these values
entries.py      what several explanations say together: where a concept shows up, its neighbours in their graphs
"""
