"""What tracking is made of: finished cells to MLflow runs, and MLflow back to a sweep's folder."""
