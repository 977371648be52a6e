"""Using a trained model: generate images from it."""
