"""The source `dropbox`: connector.py is where to begin."""
