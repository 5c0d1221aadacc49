"""Poison files, made by code at test time, and what the extractor makes of them."""
