"""What policies run on: scripts, and models in this process. Import the module you need."""
