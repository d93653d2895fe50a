"""What a plan needs of a machine's memory."""
