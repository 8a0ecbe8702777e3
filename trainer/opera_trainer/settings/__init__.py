"""What a run may say of each stage, a file a section of its YAML. Knows no stage."""
