"""The image model: backbone, frozen features, fine-tuning."""
