"""`sokuji demo`: from a tracked purchase to the prediction of a trained model, on real data."""
