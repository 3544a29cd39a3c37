"""Training under DeepSpeed: data order, the engine, checkpoints, previews, the loop."""
