"""What is played: environments, their registry, and the workers that keep them in their place."""
