"""Models on disk: fetched by name from the package index, or made from a GGUF file. Knows no engine, no HTTP."""
