//! ONNX graphs through tract; only in builds with the feature `onnx`.
