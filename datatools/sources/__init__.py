"""Where photos come from: annotation files to face records."""
