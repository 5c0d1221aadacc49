"""The source `notion`: connector.py is where to begin."""
