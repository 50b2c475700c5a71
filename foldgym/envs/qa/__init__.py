"""Question answering over documents: invented worlds, Python's own documentation, users' files."""
