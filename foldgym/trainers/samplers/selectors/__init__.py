"""Which task comes next; one page each."""
