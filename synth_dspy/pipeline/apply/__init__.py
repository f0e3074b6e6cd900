"""A saved program over a table: rows in, answers out, resumable row by row."""
