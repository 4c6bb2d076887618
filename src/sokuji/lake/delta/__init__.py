"""Tables of Parquet files with Delta Lake's commits."""
