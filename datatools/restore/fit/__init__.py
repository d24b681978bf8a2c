"""Train and measure the restoration networks; nothing outside this package imports it."""
