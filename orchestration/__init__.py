"""Running Loomline: the command line, dbt, Dagster and the demo."""
