"""Figures: the whole atlas, each of its parts in given axes, and parts at the width of a paper's column."""
