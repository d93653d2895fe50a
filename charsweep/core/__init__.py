"""What everything else speaks in: specs, keys, plug-ins, seeding, errors, the store, the system."""
