"""What charsweep is measured with."""
