"""What is played when a group went badly; one page each."""
