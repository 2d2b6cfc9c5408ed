"""The watch for loops that others own: one file for each library, which is imported only there."""
