"""The source `google_drive`: connector.py is where to begin."""
