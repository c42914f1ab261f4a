"""A site: an index, a page for each prediction and for each concept, and the files that they share."""
