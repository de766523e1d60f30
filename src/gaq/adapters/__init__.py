"""Force fields for simulation programs: an adapter converts, and does nothing else."""
