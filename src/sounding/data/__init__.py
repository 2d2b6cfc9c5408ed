"""From the user's files to encoded columns."""
