"""The command line on pyramids: inspect, verify, compare, convert, take pictures out."""
