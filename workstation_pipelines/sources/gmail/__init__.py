"""The source `gmail`: connector.py is where to begin."""
