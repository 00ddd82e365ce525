"""The small run behind the log that ships with kernadv: see README.md."""
