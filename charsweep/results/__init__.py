"""What is known of finished cells: records, points, verdict, comparisons, tables; draws nothing."""
