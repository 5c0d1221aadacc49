"""The source `slack`: connector.py is where to begin."""
