"""Finished cells to MLflow runs, and MLflow back to a sweep; the room that knows MLflow."""
