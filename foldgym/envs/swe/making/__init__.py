"""Tasks made from real packages: faults planted in their code, proved by their own tests."""
