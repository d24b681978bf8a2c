"""Presets, schedules and levels of detail."""
