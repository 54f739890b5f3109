"""What the others stand on: schedule, walk, noise, operators, the sampling loop, settings, files, errors."""
