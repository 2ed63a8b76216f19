"""SQL queries: parse tree, analysis, execution."""
