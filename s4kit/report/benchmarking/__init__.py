"""The kit against plain code: speed, memory, and what its trainings come to."""
