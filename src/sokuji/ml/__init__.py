"""BigQuery ML: models trained and asked in SQL."""
