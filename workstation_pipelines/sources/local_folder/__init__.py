"""The source `local_folder`: connector.py is where to begin."""
