"""Fine-tuning: contrastive training, and the gate that its result must pass."""
