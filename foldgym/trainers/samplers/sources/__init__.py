"""Where tasks come from; one page each."""
