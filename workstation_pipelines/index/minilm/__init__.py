"""The embedding model that is shipped with the package: all-MiniLM-L6-v2 as int8 ONNX, and its tokenizer."""
