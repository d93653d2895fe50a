"""The machine: hardware, locks, signals, processes, images, energy; knows nothing of sweeps."""
