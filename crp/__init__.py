"""Concept relevance propagation."""
