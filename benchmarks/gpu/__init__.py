"""What needs a GPU: run by hand there; date and device stand beside the results."""
