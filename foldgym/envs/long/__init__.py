"""Worlds of long horizons: much to carry out, or much to find out, before an episode ends."""
