"""How relevance flows."""
