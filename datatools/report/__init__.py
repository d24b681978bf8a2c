"""The page about a build."""
