"""What a race saves, and whether it ends as the grid does: simulated on finished sweeps."""
