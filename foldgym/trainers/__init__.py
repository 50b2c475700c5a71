"""What changes weights: credit, losses, samplers, batches, the learner and the update loop."""
