"""Fitted models as artefacts, checked and run: ONNX, MLmodel, predictions."""
