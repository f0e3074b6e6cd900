"""Tables: read from DDL or a database's catalogue, generated, documented, and written out again.

Modules: `schema` (what a table is, and how a prompt shows it), `ddl` (SQL in and out by sqlglot, run in DuckDB),
`naming` and `generate` (tables of an industry, from a vocabulary), `synthesizer` and `filters` (training rows),
`source` (industries and labelled tables), `documentation` and `output` (a table's comments and their formats),
`catalogue` (databases), `database` (one documented from start to end).
"""
