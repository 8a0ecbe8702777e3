"""The report page: one run, its curves, tables and samples, as HTML and JSON."""
