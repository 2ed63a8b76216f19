"""Generated Python on packed integers."""
