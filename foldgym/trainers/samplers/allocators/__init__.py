"""How many rollouts each task gets; one page each."""
