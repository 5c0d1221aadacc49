"""The parts of the `local_folder` source: what it may open, how it walks, how it tells renamed, changed and gone."""
