"""Training in plain PyTorch: it runs under pytest, `raygen train`, torchrun and Ray unchanged."""
