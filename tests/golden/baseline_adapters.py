"""Baselines, schedules and common losses against recordings."""
