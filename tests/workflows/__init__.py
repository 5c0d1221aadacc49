"""Workflows in PostgreSQL: their store, their blocks, and executions of random ones."""
