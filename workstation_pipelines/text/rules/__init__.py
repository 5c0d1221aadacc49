"""Rules that change, filter and file a document between its extraction and its cutting. Pure; one module a kind of rule."""
