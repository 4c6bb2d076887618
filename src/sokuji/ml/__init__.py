"""BigQuery ML: train and use models in SQL."""
