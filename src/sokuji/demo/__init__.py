"""`sokuji demo`: from a tracked purchase to a trained model's answer, on real data."""
