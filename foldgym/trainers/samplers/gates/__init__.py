"""Which finished groups are kept; a gate is made by a function and says why it refuses."""
