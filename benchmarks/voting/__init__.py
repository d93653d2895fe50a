"""Simulated voters: how many votes find the best cell, and what a voter who guesses is told."""
