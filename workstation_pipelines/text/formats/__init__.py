"""One module a family of formats; each offers `read(content, limits) -> Extracted` and runs where `table` says."""
