"""What runs inside vLLM's workers; the folder is all that their interpreter sees of foldgym."""
