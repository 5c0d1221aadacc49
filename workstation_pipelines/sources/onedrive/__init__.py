"""The source `onedrive`: connector.py is where to begin."""
