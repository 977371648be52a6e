"""What decides in a search: pure functions of its journal. No Ray; Optuna in sampler.py only."""
