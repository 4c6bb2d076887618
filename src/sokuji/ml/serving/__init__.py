"""Save, check and run fitted models: ONNX, MLmodel, predictions."""
