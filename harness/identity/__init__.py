"""What decides a run's numbers, and so its id: the code that it reaches, networks by name, records of older schemas."""
