"""What level, horizon or budget now; one page each. All are monotone and bounded."""
