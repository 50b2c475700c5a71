"""Contract checks, hostile inputs and test doubles: for foldgym's own tests and for yours."""
