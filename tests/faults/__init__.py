"""Helpers that make the bad input which the tests feed to the program."""
